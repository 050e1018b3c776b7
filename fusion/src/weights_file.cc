#include "fuseline/fusion/weights_file.h"

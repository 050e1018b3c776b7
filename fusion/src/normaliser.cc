#include "fuseline/fusion/normaliser.h"

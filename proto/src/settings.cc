#include "fuseline/proto/settings.h"

#include "fuseline/fusion/feature_encoding.h"

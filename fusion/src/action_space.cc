#include "fuseline/fusion/action_space.h"

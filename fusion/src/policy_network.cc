#include "fuseline/fusion/policy_network.h"

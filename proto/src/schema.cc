#include "fuseline/proto/schema.h"

#include "fuseline/proto/event_codec.h"

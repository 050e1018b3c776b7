#pragma once

// Which lock protects a member. Checked by clang's thread safety analysis, a comment for other compilers.
#if defined(__clang__)
#define FUSELINE_GUARDED_BY(mutex) __attribute__((guarded_by(mutex)))
#else
#define FUSELINE_GUARDED_BY(mutex)
#endif

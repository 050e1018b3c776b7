// How the allocator of our programs behaves; jemalloc reads this at its start. MALLOC_CONF in the environment goes before it.
//
// Users come and go for weeks, and what they leave must serve others or go back to the system: glibc's heap kept up to one and
// a half times what it held. What is free goes back within a second, by a thread of the allocator's own: within ten, the sessionizer would be a
// tenth faster, since a page that comes back costs as much as half an event, and hold a tenth more than it was allowed. Large pieces are
// no exception: commits and fetches have them.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,oversize_threshold:0";
}

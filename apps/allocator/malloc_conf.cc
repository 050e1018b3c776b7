// How the allocator of our programs behaves; jemalloc reads this at its start. MALLOC_CONF in the environment goes before it.
//
// Users come and go for weeks, and what they leave must serve others or go back to the system: glibc's heap kept up to one and
// a half times what it held. What is free goes back after a second, by a thread of the allocator's own.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0";
}

/* Names for the linker; the phone's own libdl.so has the code. Never pushed, never run. */

void dlopen(void) {}
void dlsym(void) {}
void dlerror(void) {}

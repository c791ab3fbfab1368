/* Names for the linker; the phone's own libc.so has the code. Never pushed, never run. */

void __libc_init(void) {}
void alarm(void) {}
void clock_gettime(void) {}
void close(void) {}
void _exit(void) {}
void fsync(void) {}
void getauxval(void) {}
void lseek(void) {}
void memcpy(void) {}
void memset(void) {}
void mmap(void) {}
void open(void) {}
void posix_memalign(void) {}
void read(void) {}
void rename(void) {}
void sched_getaffinity(void) {}
void sched_getcpu(void) {}
void sched_setaffinity(void) {}
void setenv(void) {}
void strcmp(void) {}
void strerror(void) {}
void strlen(void) {}
void strncmp(void) {}
void unlink(void) {}
void write(void) {}

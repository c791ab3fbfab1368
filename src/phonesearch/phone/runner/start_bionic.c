/* What the NDK's crtbegin does: hands the stack to Android's C library, which calls main. */

struct structors {
  void (**pre)(void);
  void (**init)(void);
  void (**fini)(void);
};

extern void __libc_init(void *stack, void (*on_exit)(void), int (*main)(int, char **, char **),
                        const struct structors *arrays);
extern int main(int argc, char **argv, char **environment);

void start_c(void *stack) {
  struct structors none = {0, 0, 0};
  __libc_init(stack, 0, main, &none);
}

__asm__(
    ".globl _start\n"
    ".type _start, %function\n"
    "_start:\n"
    "  hint #34\n" /* bti c */
    "  mov x29, #0\n"
    "  mov x30, #0\n"
    "  mov x0, sp\n"
    "  b start_c\n");

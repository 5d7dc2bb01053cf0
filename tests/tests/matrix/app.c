/* A program that waits, in the ways in which servers hide what they run. VERSION makes its bytes another's. */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef WITH_LIBRARY
const char *library_version(void);
#endif

__attribute__((used)) static const char version[] = "version " VERSION;

/* The current directory becomes the root of a mount namespace of its own, and the old root goes away. */
static int contain(void) {
    return unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
           mount(".", "/mnt", NULL, MS_BIND, NULL) || chdir("/mnt") || syscall(SYS_pivot_root, ".", ".") ||
           umount2(".", MNT_DETACH) || chdir("/");
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "wait";
    char *nothing[] = {NULL};
#ifdef WITH_LIBRARY
    if (!library_version()[0])
        return 1;
#endif
    if (!strcmp(how, "jail") && !chroot(".") && !chdir("/"))
        execl("/bin/app", "app", "wait", (char *)NULL);
    if (!strcmp(how, "contain") && !contain())
        execl("/bin/app", "app", "wait", (char *)NULL);
    if (!strcmp(how, "fork") && !fork()) {
        /* The worker is nobody's child, leads a session of its own and has lost the marks of its start. */
        setsid();
        if (fork())
            _exit(0);
        execle("bin/app", "app", "wait", (char *)NULL, nothing);
    }
    if (strcmp(how, "wait") && strcmp(how, "fork"))
        return 1;
    while (wait(NULL) > 0) {
    }
    for (;;)
        pause();
}

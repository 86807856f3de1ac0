/*
 * Preloaded into a server, this records what of its files is surely on the disk: how long each
 * was at the start of the last fsync or fdatasync of it that succeeded. What is written while a
 * sync is under way is not covered by it, and a file that was never synced is not in the record.
 *
 * A power cut is then: kill -9, and cut every file to the length in the record. kill -9 alone
 * proves nothing, because what a dead process has written is still in the page cache.
 *
 * It holds for files that are only appended to, as an AOF is. Directory entries survive a cut.
 *
 * POWER_LOSS_RECORD names the record; a line is "<inode> <length>\n", the last one of an inode counts.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void record(const struct stat *file, off_t length) {
    const char *path = getenv("POWER_LOSS_RECORD");
    if (!path || !S_ISREG(file->st_mode)) return;
    char line[64];
    int size = snprintf(line, sizeof line, "%llu %lld\n",
                        (unsigned long long)file->st_ino, (long long)length);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    /* Without its record a test would judge a disk that does not exist. */
    if (fd < 0 || write(fd, line, size) != size) abort();
    close(fd);
}

static int sync_and_record(int fd, const char *name) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat file;
    int known = fstat(fd, &file) == 0;
    int result = real(fd);
    if (result == 0 && known) {
        record(&file, file.st_size);
        errno = 0;
    }
    return result;
}

int fsync(int fd) { return sync_and_record(fd, "fsync"); }

int fdatasync(int fd) { return sync_and_record(fd, "fdatasync"); }

/* A server that cuts a torn end off its file has no more than the rest on the disk. */
static int truncate_and_record(int fd, off_t length, const char *name) {
    int (*real)(int, off_t) = (int (*)(int, off_t))dlsym(RTLD_NEXT, name);
    struct stat file;
    int shrinks = fstat(fd, &file) == 0 && length < file.st_size;
    int result = real(fd, length);
    if (result == 0 && shrinks) record(&file, length);
    return result;
}

int ftruncate(int fd, off_t length) { return truncate_and_record(fd, length, "ftruncate"); }

int ftruncate64(int fd, off_t length) { return truncate_and_record(fd, length, "ftruncate64"); }

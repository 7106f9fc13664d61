// Kills a process, or fails its system call, at the K-th change that it makes under a folder.
//
// Preloaded (LD_PRELOAD), it stands before the C library's calls that change a disk: open for
// writing, write, fsync, rename, unlink, rmdir and mkdir. Those of paths under the folder are
// counted. `faults_arm` sets what happens; until then nothing does.

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace {

char folder[PATH_MAX] = "";
std::atomic<int64_t> n_calls{0};
int64_t first = 0;    // the number of the first call that fails; 0 for none
int64_t n_failing = 0;
int failure = 0;      // its errno; 0 to kill the process instead
int log_file = -1;

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

// Writes the absolute form of a path, relative to an open folder or the working folder.
void absolute(int at, const char* path, char* result) {
  if (path[0] == '/') {
    snprintf(result, PATH_MAX, "%s", path);
    return;
  }
  char base[PATH_MAX] = "";
  if (at == AT_FDCWD) {
    if (getcwd(base, sizeof base) == nullptr) base[0] = 0;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    const ssize_t length = readlink(link, base, sizeof base - 1);
    base[length > 0 ? length : 0] = 0;
  }
  const size_t length = strlen(base);
  snprintf(result, PATH_MAX, "%.*s/%s", static_cast<int>(length), base, path);
}

bool is_inside(const char* path) {
  const size_t length = strlen(folder);
  return length > 0 && strncmp(path, folder, length) == 0 &&
         (path[length] == '/' || path[length] == 0);
}

// What is to happen to a call.
enum class Fate { goes_on, fails, dies };

Fate fate(const char* call, const char* path) {
  if (folder[0] == 0 || !is_inside(path)) return Fate::goes_on;
  const int64_t number = ++n_calls;
  if (log_file >= 0) {
    char line[PATH_MAX + 64];
    const int length = snprintf(line, sizeof line, "%ld %s %s\n", static_cast<long>(number), call,
                                path + strlen(folder));
    syscall(SYS_write, log_file, line, length);
  }
  if (first == 0 || number < first || number >= first + n_failing) return Fate::goes_on;
  return failure == 0 ? Fate::dies : Fate::fails;
}

[[noreturn]] void die() {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

// Whether a call on a path may go on; otherwise errno is set.
bool may(const char* call, int at, const char* path) {
  char whole[PATH_MAX];
  absolute(at, path, whole);
  const Fate decided = fate(call, whole);
  if (decided == Fate::dies) die();
  if (decided == Fate::fails) errno = failure;
  return decided == Fate::goes_on;
}

// The same for an open file; the fate is left to the caller, who may do a part.
Fate fate_of(const char* call, int file) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return Fate::goes_on;
  path[length] = 0;
  return fate(call, path);
}

bool changes(int flags) { return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0; }

}  // namespace

extern "C" {

void faults_arm(const char* under, int64_t at, int64_t count, int error, int log) {
  snprintf(folder, sizeof folder, "%s", under);
  first = at;
  n_failing = count;
  failure = error;
  log_file = log;
  n_calls = 0;
}

int64_t faults_n_calls() { return n_calls; }

#define WITH_MODE                     \
  mode_t mode = 0;                    \
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) { \
    va_list rest;                     \
    va_start(rest, flags);            \
    mode = va_arg(rest, mode_t);      \
    va_end(rest);                     \
  }

int open(const char* path, int flags, ...) {
  WITH_MODE
  if (changes(flags) && !may("open", AT_FDCWD, path)) return -1;
  return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

int open64(const char* path, int flags, ...) {
  WITH_MODE
  if (changes(flags) && !may("open", AT_FDCWD, path)) return -1;
  return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

int openat(int at, const char* path, int flags, ...) {
  WITH_MODE
  if (changes(flags) && !may("open", at, path)) return -1;
  return static_cast<int>(syscall(SYS_openat, at, path, flags, mode));
}

int openat64(int at, const char* path, int flags, ...) {
  WITH_MODE
  if (changes(flags) && !may("open", at, path)) return -1;
  return static_cast<int>(syscall(SYS_openat, at, path, flags, mode));
}

// A write that is stopped has written half.
ssize_t write(int file, const void* content, size_t size) {
  const Fate decided = fate_of("write", file);
  if (decided == Fate::goes_on) return syscall(SYS_write, file, content, size);
  syscall(SYS_write, file, content, size / 2);
  if (decided == Fate::dies) die();
  errno = failure;
  return -1;
}

int fsync(int file) {
  const Fate decided = fate_of("fsync", file);
  if (decided == Fate::dies) die();
  if (decided == Fate::goes_on) return static_cast<int>(syscall(SYS_fsync, file));
  errno = failure;
  return -1;
}

int rename(const char* from, const char* to) {
  if (!may("rename", AT_FDCWD, from)) return -1;
  return real<int(const char*, const char*)>("rename")(from, to);
}

int renameat(int at, const char* from, int to_at, const char* to) {
  if (!may("rename", at, from)) return -1;
  return static_cast<int>(syscall(SYS_renameat2, at, from, to_at, to, 0));
}

int renameat2(int at, const char* from, int to_at, const char* to, unsigned flags) {
  if (!may("rename", at, from)) return -1;
  return static_cast<int>(syscall(SYS_renameat2, at, from, to_at, to, flags));
}

int unlink(const char* path) {
  if (!may("unlink", AT_FDCWD, path)) return -1;
  return static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int unlinkat(int at, const char* path, int flags) {
  if (!may("unlink", at, path)) return -1;
  return static_cast<int>(syscall(SYS_unlinkat, at, path, flags));
}

int rmdir(const char* path) {
  if (!may("rmdir", AT_FDCWD, path)) return -1;
  return static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
}

int mkdir(const char* path, mode_t mode) {
  if (!may("mkdir", AT_FDCWD, path)) return -1;
  return static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

}  // extern "C"

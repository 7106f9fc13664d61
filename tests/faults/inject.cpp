// Kills a process, or fails its system call, at the K-th change that it makes under a folder.
//
// Preloaded (LD_PRELOAD), it stands before the C library's calls that change a disk: open for
// writing, write, fsync, rename, unlink, rmdir and mkdir. Those of paths under the folder are
// counted. `faults_arm` sets what happens; until then nothing does. `faults_journal` has every call
// written down, with what it wrote, so that what a power cut leaves can be worked out.

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
int journal_file = -1;

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

void journal_text(const char* text) { syscall(SYS_write, journal_file, text, strlen(text)); }

// Adds a line to the journal: a call that was done under the folder, its paths, and what it wrote.
int done(int result, const char* call, int at, const char* path, int to_at = 0,
         const char* to = nullptr, const unsigned char* content = nullptr, size_t size = 0) {
  if (journal_file < 0 || result < 0) return result;
  const int error = errno;
  char whole[PATH_MAX];
  absolute(at, path, whole);
  if (is_inside(whole)) {
    journal_text(call);
    journal_text("\t");
    journal_text(whole + strlen(folder));
    journal_text("\t");
    if (to != nullptr) {
      absolute(to_at, to, whole);
      journal_text(is_inside(whole) ? whole + strlen(folder) : whole);
    }
    for (size_t i = 0; i < size; ++i) {
      char digits[3];
      snprintf(digits, sizeof digits, "%02x", content[i]);
      journal_text(digits);
    }
    journal_text("\n");
  }
  errno = error;
  return result;
}

// The path of an open file.
bool path_of(int file, char* path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = 0;
  return length > 0;
}

// The same for an open file; the fate is left to the caller, who may do a part.
Fate fate_of(const char* call, int file) {
  char path[PATH_MAX];
  return path_of(file, path) ? fate(call, path) : Fate::goes_on;
}

int open_at(int at, const char* path, int flags, mode_t mode) {
  const bool changes = (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0;
  if (changes && !may("open", at, path)) return -1;
  const int file = static_cast<int>(syscall(SYS_openat, at, path, flags, mode));
  return changes ? done(file, (flags & O_TRUNC) != 0 ? "make" : "open", at, path) : file;
}

int rename_at(int at, const char* from, int to_at, const char* to, unsigned flags) {
  if (!may("rename", at, from)) return -1;
  const int result = static_cast<int>(syscall(SYS_renameat2, at, from, to_at, to, flags));
  return done(result, flags == 0 ? "rename" : "exchange", at, from, to_at, to);
}

int unlink_at(int at, const char* path, int flags, const char* call) {
  if (!may(call, at, path)) return -1;
  return done(static_cast<int>(syscall(SYS_unlinkat, at, path, flags)), "unlink", at, path);
}

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

void faults_journal(int file) { journal_file = file; }

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
  return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  WITH_MODE
  return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char* path, int flags, ...) {
  WITH_MODE
  return open_at(at, path, flags, mode);
}

int openat64(int at, const char* path, int flags, ...) {
  WITH_MODE
  return open_at(at, path, flags, mode);
}

// A write that is stopped has written half.
ssize_t write(int file, const void* content, size_t size) {
  const Fate decided = fate_of("write", file);
  if (decided == Fate::goes_on) {
    const ssize_t written = syscall(SYS_write, file, content, size);
    char path[PATH_MAX];
    if (journal_file >= 0 && written > 0 && path_of(file, path)) {
      done(0, "write", AT_FDCWD, path, 0, nullptr, static_cast<const unsigned char*>(content),
           static_cast<size_t>(written));
    }
    return written;
  }
  syscall(SYS_write, file, content, size / 2);
  if (decided == Fate::dies) die();
  errno = failure;
  return -1;
}

int fsync(int file) {
  const Fate decided = fate_of("fsync", file);
  if (decided == Fate::dies) die();
  if (decided == Fate::fails) {
    errno = failure;
    return -1;
  }
  char path[PATH_MAX];
  const int result = static_cast<int>(syscall(SYS_fsync, file));
  return path_of(file, path) ? done(result, "fsync", AT_FDCWD, path) : result;
}

int rename(const char* from, const char* to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0); }

int renameat(int at, const char* from, int to_at, const char* to) {
  return rename_at(at, from, to_at, to, 0);
}

int renameat2(int at, const char* from, int to_at, const char* to, unsigned flags) {
  return rename_at(at, from, to_at, to, flags);
}

int unlink(const char* path) { return unlink_at(AT_FDCWD, path, 0, "unlink"); }

int unlinkat(int at, const char* path, int flags) { return unlink_at(at, path, flags, "unlink"); }

int rmdir(const char* path) { return unlink_at(AT_FDCWD, path, AT_REMOVEDIR, "rmdir"); }

int mkdir(const char* path, mode_t mode) {
  if (!may("mkdir", AT_FDCWD, path)) return -1;
  const int result = static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode));
  return done(result, "mkdir", AT_FDCWD, path);
}

}  // extern "C"

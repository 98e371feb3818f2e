/* LD_PRELOAD for linux.uml on processors whose extended state is larger than the buffer that User Mode Linux has for it:
 * the kernel refuses to set less than all of it (PTRACE_SETREGSET of NT_X86_XSTATE, ptrace(2)), so what is missing is
 * filled in with what is set already. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { GETREGSET = 0x4204, SETREGSET = 0x4205, XSTATE = 0x202, PEEK_FIRST = 1, PEEK_LAST = 3, MOST = 1 << 14 };

long ptrace(int request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	long pid = va_arg(arguments, int);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	if (request == SETREGSET && (long)address == XSTATE) {
		static char whole[MOST] __attribute__((aligned(64)));
		struct iovec *given = data, full = {whole, sizeof whole};
		if (syscall(SYS_ptrace, GETREGSET, pid, address, &full) == 0 && full.iov_len > given->iov_len) {
			memcpy(whole, given->iov_base, given->iov_len);
			return syscall(SYS_ptrace, SETREGSET, pid, address, &full);
		}
	}
	if (request >= PEEK_FIRST && request <= PEEK_LAST) { /* glibc returns the word, the kernel stores it */
		long word, result = syscall(SYS_ptrace, request, pid, address, &word);
		return result < 0 ? result : word;
	}
	return syscall(SYS_ptrace, request, pid, address, data);
}

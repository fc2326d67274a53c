package service

import "golang.org/x/sys/unix"

// Conceal keeps other processes of the same user, and core files, from this one's memory, where tokens are: no ptrace, no
// /proc/PID/mem or environ (PR_SET_DUMPABLE, prctl(2)). The stacks that SIGQUIT prints are Go's own and stay. A change of
// identity leaves it as closed, by fs.suid_dumpable (proc(5)). A kernel that refuses it is no reason to stop mail.
func Conceal() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

package main

import (
	"os"
	"syscall"
)

// askToStop asks a process to end cleanly, one that was paused (kill -STOP) as
// well. Errors say that it has ended.
func askToStop(p *os.Process) {
	_ = p.Signal(syscall.SIGTERM)
	_ = p.Signal(syscall.SIGCONT)
}

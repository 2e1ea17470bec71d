package testcluster

import (
	"fmt"
	"math/rand/v2"
	"syscall"
)

// attributes has a broker end with us, whatever ends us, and keeps a Ctrl-C of
// the terminal from it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// loopback is an address of this machine for one cluster alone: while one of
// its brokers is down, no other process can take its port.
func loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

//go:build unix && !linux

package testcluster

import "syscall"

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// loopback is the only address that is sure to be there.
func loopback() string { return "127.0.0.1" }

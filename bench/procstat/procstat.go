// Package procstat reads from Linux's /proc what processes use: CPU time,
// memory, and the bytes that they write to disks.
package procstat

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of CPU times in /proc: USER_HZ is 100 on every
// architecture that Go supports.
const clockTick = 10 * time.Millisecond

// Usage is what processes and their descendants use.
type Usage struct {
	// CPU is user and system time so far, in steps of 10 ms. It includes
	// descendants that ended and were waited for.
	CPU time.Duration
	// RSS is the resident memory in bytes, and PeakRSS the largest that it
	// was (for several processes: the sum of each one's largest).
	RSS, PeakRSS int64
	// Written is the bytes that were caused to go to disks so far, -1 where
	// the system doesn't tell.
	Written int64
}

func (u *Usage) add(other Usage) {
	u.CPU += other.CPU
	u.RSS += other.RSS
	u.PeakRSS += other.PeakRSS
	if other.Written < 0 || u.Written < 0 {
		u.Written = -1
		return
	}
	u.Written += other.Written
}

// Of adds up the processes and all their descendants: RabbitMQ's virtual
// machine is a child of the script that starts it. An error means that one is
// gone or that there is no /proc.
func Of(pids ...int) (Usage, error) {
	children, err := processChildren()
	if err != nil {
		return Usage{}, err
	}
	var total Usage
	for _, pid := range pids {
		usage, err := One(pid)
		if err != nil {
			return Usage{}, fmt.Errorf("procstat: process %d: %w", pid, err)
		}
		total.add(usage)
		for pending := children[pid]; len(pending) > 0; pending = pending[1:] {
			child := pending[0]
			pending = append(pending, children[child]...)
			if usage, err := One(child); err == nil { // else it ended since it was listed
				total.add(usage)
			}
		}
	}
	return total, nil
}

// processChildren lists every process by its parent.
func processChildren() (map[int][]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("procstat: process usage needs Linux's /proc: %w", err)
	}
	children := make(map[int][]int)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		fields, err := statFields(pid)
		if err != nil {
			continue
		}
		if parent, err := strconv.Atoi(string(fields[1])); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	return children, nil
}

// statFields are those of /proc/pid/stat from the third on (proc(5)): the
// second is the program's name, which may hold spaces and brackets.
func statFields(pid int) ([][]byte, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 15 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return fields, nil
}

// One is the process alone, without its descendants.
func One(pid int) (Usage, error) {
	fields, err := statFields(pid)
	if err != nil {
		return Usage{}, err
	}
	var usage Usage
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return Usage{}, err
		}
		usage.CPU += time.Duration(ticks) * clockTick
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Usage{}, err
	}
	usage.RSS = statusBytes(status, "VmRSS:")
	usage.PeakRSS = statusBytes(status, "VmHWM:")
	usage.Written = writtenBytes(pid)
	return usage, nil
}

// writtenBytes is write_bytes of /proc/pid/io (proc(5)): what was put into the
// page cache for a disk, -1 where that may not be read.
func writtenBytes(pid int) int64 {
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return -1
	}
	_, rest, found := bytes.Cut(io, []byte("\nwrite_bytes: "))
	if !found {
		return -1
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	written, err := strconv.ParseInt(string(line), 10, 64)
	if err != nil {
		return -1
	}
	return written
}

// statusBytes is a field of /proc/pid/status, which counts in KiB.
func statusBytes(status []byte, name string) int64 {
	_, rest, found := bytes.Cut(status, []byte("\n"+name))
	if !found {
		return 0 // a kernel thread or a zombie
	}
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// MiB prints a number of bytes in mebibytes.
func MiB(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

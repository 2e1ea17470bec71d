package bench

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// clockTick is the unit of CPU times in /proc: USER_HZ is 100 on every
// architecture that Go supports.
const clockTick = 10 * time.Millisecond

// Usage is what a process and its descendants use.
type Usage struct {
	// CPU is user and system time so far, in steps of 10 ms. It includes
	// descendants that ended and were waited for.
	CPU time.Duration
	// RSS is the resident memory in bytes, and PeakRSS the largest that it
	// was (for several processes: the sum of each one's largest).
	RSS, PeakRSS int64
}

// ProcessUsage adds up the process pid and all its descendants, from Linux's
// /proc: RabbitMQ's virtual machine is a child of the script that starts it.
// An error means that pid is gone or that there is no /proc.
func ProcessUsage(pid int) (Usage, error) {
	children, err := processChildren()
	if err != nil {
		return Usage{}, err
	}
	total, err := oneProcess(pid)
	if err != nil {
		return Usage{}, fmt.Errorf("bench: process %d: %w", pid, err)
	}
	pending := children[pid]
	for len(pending) > 0 {
		child := pending[0]
		pending = append(pending[1:], children[child]...)
		usage, err := oneProcess(child)
		if err != nil {
			continue // it ended since it was listed
		}
		total.CPU += usage.CPU
		total.RSS += usage.RSS
		total.PeakRSS += usage.PeakRSS
	}
	return total, nil
}

// processChildren lists every process by its parent.
func processChildren() (map[int][]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("bench: process usage needs Linux's /proc: %w", err)
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

func oneProcess(pid int) (Usage, error) {
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
	return usage, nil
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

// directorySize is the bytes on disk of all files below dir. Files that
// vanish meanwhile don't count.
func directorySize(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += diskBytes(info)
		}
		return nil
	})
	return size, err
}

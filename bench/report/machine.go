package report

import (
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Machine is what a measurement ran on.
type Machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	MemoryMiB int    `json:"memory_mib"`
	System    string `json:"system"`
	Go        string `json:"go"`
	// Load is how many processes ran or wanted to in the minute before the
	// measurement: on a quiet machine nearly none.
	Load float64 `json:"load"`
}

// ThisMachine looks at the one that it runs on. What the system doesn't tell
// (it asks Linux's /proc) stays empty.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	m.CPU = strings.TrimSpace(strings.TrimPrefix(procField("/proc/cpuinfo", "model name"), ":"))
	if kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(strings.TrimPrefix(procField("/proc/meminfo", "MemTotal"), ":")), " kB")); err == nil {
		m.MemoryMiB = kib >> 10
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += " " + strings.TrimSpace(string(release))
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(text), " ")
		m.Load, _ = strconv.ParseFloat(first, 64) // 0 where it can't be read
	}
	return m
}

// procField is the rest of the first line that starts with the name.
func procField(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

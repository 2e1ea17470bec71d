package procstat

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

func TestUsageIncludesDescendants(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux's /proc")
	}
	// A shell whose child spins until it is killed.
	cmd := exec.Command("sh", "-c", "sh -c 'while :; do :; done' & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	defer func() {
		if process, err := os.FindProcess(child); err == nil && child > 0 {
			_ = process.Kill()
		}
		_ = cmd.Wait()
	}()
	buffer := make([]byte, 32)
	n, err := out.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	for _, digit := range buffer[:n] {
		if digit >= '0' && digit <= '9' {
			child = child*10 + int(digit-'0')
		}
	}
	deadline := time.After(10 * time.Second)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		usage, err := Of(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if usage.CPU >= 50*time.Millisecond && usage.RSS > 0 && usage.PeakRSS >= usage.RSS {
			return
		}
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("usage %+v of a process whose child spins", usage)
		}
	}
}

func TestUsageOfAMissingProcessIsAnError(t *testing.T) {
	if _, err := Of(1 << 30); err == nil {
		t.Error("no error")
	}
}

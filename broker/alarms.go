package broker

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// alarmInterval is how often memory and disk are looked at. RabbitMQ looks
// every 10 s at most; a full disk at 100 MB/s leaves less time than that.
const alarmInterval = 250 * time.Millisecond

const urgeInterval = 5 * time.Second

// alarms watches memory and free disk space. While either crosses its limit,
// publishers are blocked; consuming and acking go on.
type alarms struct {
	data                 string
	memoryLimit, minFree int64
	memory, disk         atomic.Bool
	usedMemory, freeDisk atomic.Int64
	changed              func(reason string) // "" when no alarm is left
	// urge is called every urgeInterval while the disk is low: to free what can
	// be freed.
	urge     func()
	urged    time.Time
	pressure pressure // watch's
}

// collectEvery is how many looks above the limit there are to one collection
// of garbage: one a second.
const collectEvery = 4

// pressure tells garbage from memory that is needed. Blocked publishers
// allocate nothing, so that the runtime would not look for garbage again for
// up to two minutes, and an alarm that a burst raised would last as long.
type pressure struct {
	over int // looks in a row above the limit
}

// used is what measure says, after garbage was collected if it was above the
// limit and that wasn't done a moment ago.
func (p *pressure) used(limit int64, measure func() int64, collect func()) int64 {
	used := measure()
	if limit <= 0 || used <= limit {
		p.over = 0
		return used
	}
	p.over++
	if p.over%collectEvery != 1 {
		return used
	}
	collect()
	return measure()
}

// watch looks at both until ctx ends.
func (a *alarms) watch(ctx context.Context) {
	tick := time.NewTicker(alarmInterval)
	defer tick.Stop()
	for {
		a.look()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *alarms) look() {
	used := a.pressure.used(a.memoryLimit, memoryInUse, runtime.GC)
	a.usedMemory.Store(used)
	memory := a.memoryLimit > 0 && used > a.memoryLimit
	disk := a.disk.Load()
	if free, err := freeSpace(a.data); err == nil {
		a.freeDisk.Store(free)
		disk = free < a.minFree
	}
	if disk && time.Since(a.urged) >= urgeInterval {
		a.urged = time.Now()
		a.urge()
	}
	was := a.memory.Swap(memory)
	if had := a.disk.Swap(disk); was != memory || had != disk {
		a.changed(a.reason())
	}
}

// reason is the text of connection.blocked, as RabbitMQ words it, or "".
func (a *alarms) reason() string {
	var low []string
	if a.memory.Load() {
		low = append(low, "memory")
	}
	if a.disk.Load() {
		low = append(low, "disk")
	}
	if len(low) == 0 {
		return ""
	}
	return fmt.Sprintf("low on %s", strings.Join(low, " & "))
}

// memoryInUse is what the process holds in bytes: the runtime's mapped memory
// less what it gave back.
func memoryInUse() int64 {
	sample := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64()) - int64(sample[1].Value.Uint64()) - int64(sample[2].Value.Uint64())
}

func freeSpace(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil
}

// readMemTotal reads the machine's memory from /proc/meminfo.
func readMemTotal() (int64, bool) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/hiveproof/hiveproof/provision/image"
	"github.com/hiveproof/hiveproof/provision/qemu"
	"github.com/hiveproof/hiveproof/provision/topology"
)

// What a host takes of this machine beyond its memory, and what its disk may grow to.
const (
	overheadMiB    = 160 // QEMU itself and its translation buffer
	diskPerHostMiB = 700 // an idle node's overlay with room for a scenario
)

// preflight says, before anything is started, what this machine lacks.
func preflight(ctx context.Context, top *topology.Topology, stateDir string) error {
	var problems []error
	if _, err := qemu.Version(ctx); err != nil {
		problems = append(problems, err)
	}
	need := NeedMiB(top)
	available, err := AvailableMemoryMiB()
	if err != nil {
		problems = append(problems, err)
	} else if available < need {
		problems = append(problems, fmt.Errorf("%d MiB of memory are available, the topology's %d hosts take %d MiB: free some, or give the hosts less (memory: in the topology file)",
			available, len(top.Hosts), need))
	}
	free, err := image.FreeBytes(stateDir)
	if err != nil {
		problems = append(problems, err)
	} else if want := int64(len(top.Hosts)) * diskPerHostMiB << 20; free < want {
		problems = append(problems, fmt.Errorf("%d MiB are free in %s, the hosts' disks may take %d MiB: make room, or choose another place with --state-dir",
			free>>20, stateDir, want>>20))
	}
	return errors.Join(problems...)
}

// NeedMiB is the memory that a topology's hosts take of this machine.
func NeedMiB(top *topology.Topology) int {
	need := 0
	for _, h := range top.Hosts {
		need += h.MemoryMiB + overheadMiB
	}
	return need
}

// AvailableMemoryMiB is what can be had without swapping (proc(5), MemAvailable).
func AvailableMemoryMiB() (int, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read the available memory: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				return 0, fmt.Errorf("read the available memory: %w", err)
			}
			return kib >> 10, nil
		}
	}
	return 0, errors.New("read the available memory: /proc/meminfo has no MemAvailable")
}

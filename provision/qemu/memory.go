package qemu

import (
	"context"
	"fmt"
	"os"

	"github.com/hiveproof/hiveproof/provision/snapshot"
	"golang.org/x/sys/unix"
)

// newMemory makes a guest's memory, a file without a name (memfd_create(2)): it
// can be read here while the machine stands still, and is gone with the last
// process that has it open.
func newMemory(mib int) (*os.File, error) {
	fd, err := unix.MemfdCreate("hiveproof-memory", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the guest's memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), "memory")
	if err := file.Truncate(int64(mib) << 20); err != nil {
		file.Close()
		return nil, fmt.Errorf("make the guest's memory: %w", err)
	}
	return file, nil
}

// loadMemory makes a guest's memory with the content of a saved one, which is
// checked on the way.
func loadMemory(ctx context.Context, set *snapshot.Snapshot, name string) (*os.File, error) {
	want, err := set.File(name)
	if err != nil {
		return nil, err
	}
	from, err := os.Open(set.Path(name))
	if err != nil {
		return nil, fmt.Errorf("open a saved memory: %w", err)
	}
	defer from.Close()
	to, err := newMemory(0)
	if err != nil {
		return nil, err
	}
	got, err := snapshot.Copy(ctx, to, from)
	if err == nil {
		err = set.Compare(want, got)
	}
	if err != nil {
		to.Close()
		return nil, err
	}
	return to, nil
}

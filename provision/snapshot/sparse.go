package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
)

// block is the unit in which holes are kept: a page of a guest's memory.
const block = 4 << 10

// File names one file of a set and what it must hold.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes, holes included
	// Digest is the xxHash64 of the blocks that are not all zero, each with its
	// offset: it finds damage, it does not protect against forgery. It does not
	// depend on how a file system lays out holes.
	Digest string `json:"digest"`
}

// scan calls data for every block of the file that is not all zero, and returns
// the file's digest. A block at the file's end may be shorter.
func scan(ctx context.Context, file *os.File, size int64, data func(p []byte, offset int64) error) (string, error) {
	digest := xxhash.New()
	zero := make([]byte, block)
	buffer := make([]byte, 1<<20)
	var at [8]byte
	for offset := int64(0); offset < size; {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		start, err := unix.Seek(int(file.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			return "", fmt.Errorf("look for data: %w", err)
		}
		start -= start % block
		end, err := unix.Seek(int(file.Fd()), max(start, offset), unix.SEEK_HOLE)
		if err != nil {
			return "", fmt.Errorf("look for holes: %w", err)
		}
		for offset = start; offset < min(end, size); {
			n, err := file.ReadAt(buffer[:min(int64(len(buffer)), size-offset)], offset)
			if err != nil && (!errors.Is(err, io.EOF) || n == 0) {
				return "", fmt.Errorf("read: %w", err)
			}
			for p := buffer[:n]; len(p) > 0; {
				b := p[:min(block, len(p))]
				p = p[len(b):]
				if !bytes.Equal(b, zero[:len(b)]) {
					binary.BigEndian.PutUint64(at[:], uint64(offset))
					_, _ = digest.Write(at[:]) // a hash never fails
					_, _ = digest.Write(b)
					if data != nil {
						if err := data(b, offset); err != nil {
							return "", err
						}
					}
				}
				offset += int64(len(b))
			}
		}
	}
	return strconv.FormatUint(digest.Sum64(), 16), nil
}

// Copy copies a file into an empty one, holes and zero blocks as holes, and
// returns what it holds.
func Copy(ctx context.Context, to, from *os.File) (File, error) {
	st, err := from.Stat()
	if err != nil {
		return File{}, fmt.Errorf("copy %s: %w", from.Name(), err)
	}
	if err := to.Truncate(st.Size()); err != nil {
		return File{}, fmt.Errorf("copy %s: %w", from.Name(), err)
	}
	// Adjacent blocks are written together.
	run, runAt := make([]byte, 0, 1<<20), int64(0)
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		_, err := to.WriteAt(run, runAt)
		run = run[:0]
		return err
	}
	digest, err := scan(ctx, from, st.Size(), func(p []byte, offset int64) error {
		if offset != runAt+int64(len(run)) || len(run)+len(p) > cap(run) {
			if err := flush(); err != nil {
				return err
			}
			runAt = offset
		}
		run = append(run, p...)
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return File{}, fmt.Errorf("copy %s: %w", from.Name(), err)
	}
	return File{Name: filepath.Base(to.Name()), Size: st.Size(), Digest: digest}, nil
}

// Describe reads a file of the set and returns what it holds.
func Describe(ctx context.Context, path string) (File, error) {
	file, err := os.Open(path)
	if err != nil {
		return File{}, fmt.Errorf("read a file of the snapshot: %w", err)
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return File{}, fmt.Errorf("read a file of the snapshot: %w", err)
	}
	digest, err := scan(ctx, file, st.Size(), nil)
	if err != nil {
		return File{}, fmt.Errorf("read %s: %w", path, err)
	}
	return File{Name: filepath.Base(path), Size: st.Size(), Digest: digest}, nil
}

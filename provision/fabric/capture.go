package fabric

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// CaptureOptions adjust a capture. The zero value is right for a scenario.
type CaptureOptions struct {
	// MaxBytes ends the recording when so many bytes of frames are in the file; 0 is 64 MiB.
	MaxBytes uint64
	// Queue is how many frames may wait to be written; 0 is 16384.
	Queue int
}

const (
	defaultCaptureBytes = 64 << 20
	defaultCaptureQueue = 16384
)

// CaptureStats say what a capture file holds.
type CaptureStats struct {
	Frames    uint64 // in the file
	Bytes     uint64
	Lost      uint64 // not in the file, because the writer did not keep up
	Truncated bool   // MaxBytes was reached
}

// Capture is a recording under way. A frame is recorded at the port where it
// enters, as the device sent it, and at each port where it leaves, as it is
// delivered: what a link lost is in the first and not in the second.
type Capture struct {
	switches []*Switch
	path     string
	options  CaptureOptions
	file     *os.File

	mu      sync.RWMutex // frames are queued under the read lock, the end is marked under the write lock
	ended   bool
	frames  chan captured
	lost    atomic.Uint64
	written chan error
	stats   CaptureStats // the writer's, until written
	once    sync.Once
	err     error
}

type captured struct {
	port  *Port
	at    time.Time
	frame []byte
}

// StartCapture records every port of the switches, one interface a port, also of
// ports that are attached later. The file has its name only once Stop has
// completed it; until then it is path with ".part".
func StartCapture(path string, options CaptureOptions, switches ...*Switch) (*Capture, error) {
	if options.MaxBytes == 0 {
		options.MaxBytes = defaultCaptureBytes
	}
	if options.Queue == 0 {
		options.Queue = defaultCaptureQueue
	}
	if len(switches) == 0 {
		return nil, errors.New("start a capture: no switch to record")
	}
	file, err := os.Create(path + ".part")
	if err != nil {
		return nil, fmt.Errorf("start a capture: %w", err)
	}
	c := &Capture{
		switches: switches, path: path, options: options, file: file,
		frames: make(chan captured, options.Queue), written: make(chan error, 1),
	}
	var ports []*Port
	for _, s := range switches {
		ports = append(ports, s.Ports()...)
	}
	go func() { c.written <- c.write(ports) }()
	for _, s := range switches {
		s.mu.Lock()
		change(&s.captures, func(all []*Capture) []*Capture { return append(all, c) })
		s.mu.Unlock()
	}
	return c, nil
}

// record offers a frame to the captures of the switch.
func (s *Switch) record(p *Port, frame []byte) {
	all := s.captures.Load()
	if all == nil {
		return
	}
	now := time.Now()
	for _, c := range *all {
		c.offer(captured{p, now, frame})
	}
}

func (c *Capture) offer(f captured) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.ended {
		return
	}
	select {
	case c.frames <- f:
	default:
		c.lost.Add(1) // the switch never waits for the disk
	}
}

// write is the writer: it knows the interfaces and the file.
func (c *Capture) write(ports []*Port) error {
	out := bufio.NewWriterSize(c.file, 1<<20)
	interfaces := map[*Port]int{}
	describe := func(p *Port) pcapgo.NgInterface {
		return pcapgo.NgInterface{
			Name: p.String(), LinkType: layers.LinkTypeEthernet, TimestampResolution: 9, SnapLength: 0,
		}
	}
	var w *pcapgo.NgWriter
	var failed error
	add := func(p *Port) (int, error) {
		if i, ok := interfaces[p]; ok {
			return i, nil
		}
		var i int
		var err error
		if w == nil {
			w, err = pcapgo.NewNgWriterInterface(out, describe(p), pcapgo.DefaultNgWriterOptions)
		} else {
			i, err = w.AddInterface(describe(p))
		}
		interfaces[p] = i
		return i, err
	}
	for _, p := range ports {
		if _, err := add(p); err != nil {
			failed = err
		}
	}
	for f := range c.frames {
		if failed != nil || c.stats.Truncated {
			continue // emptied, so that senders see no full queue
		}
		if c.stats.Bytes+uint64(len(f.frame)) > c.options.MaxBytes {
			c.stats.Truncated = true
			continue
		}
		i, err := add(f.port)
		if err == nil {
			err = w.WritePacket(gopacket.CaptureInfo{
				Timestamp: f.at, CaptureLength: len(f.frame), Length: len(f.frame), InterfaceIndex: i,
			}, f.frame)
		}
		if err != nil {
			failed = err
			continue
		}
		c.stats.Frames++
		c.stats.Bytes += uint64(len(f.frame))
	}
	if failed == nil && w != nil {
		failed = w.Flush()
	}
	return errors.Join(failed, out.Flush(), c.file.Close())
}

// Stop ends the recording and completes the file. It may be called twice.
func (c *Capture) Stop() (CaptureStats, error) {
	c.once.Do(func() {
		for _, s := range c.switches {
			s.mu.Lock()
			change(&s.captures, func(all []*Capture) []*Capture {
				return slices.DeleteFunc(all, func(other *Capture) bool { return other == c })
			})
			s.mu.Unlock()
		}
		c.mu.Lock()
		c.ended = true
		close(c.frames)
		c.mu.Unlock()
		if err := <-c.written; err != nil {
			c.err = fmt.Errorf("write the capture %s: %w", c.path, err)
		} else if err := os.Rename(c.path+".part", c.path); err != nil {
			c.err = fmt.Errorf("complete the capture: %w", err)
		}
		c.stats.Lost = c.lost.Load()
	})
	return c.stats, c.err
}

// change replaces a list that is read without a lock; nil stands for an empty one.
func change[T any](p *atomic.Pointer[[]T], edit func([]T) []T) {
	var all []T
	if old := p.Load(); old != nil {
		all = slices.Clone(*old)
	}
	all = edit(all)
	if len(all) == 0 {
		p.Store(nil)
		return
	}
	p.Store(&all)
}

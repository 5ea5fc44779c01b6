package fabric

import (
	"bufio"
	"errors"
	"fmt"
	"io"
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
	// MaxBytes ends the recording when the next frame would make the file's packet
	// blocks larger, in bytes; 0 is 64 MiB.
	MaxBytes uint64
	// Queue is how many frames may wait to be written; 0 is 16384.
	Queue int
}

const (
	defaultCaptureBytes = 64 << 20
	defaultCaptureQueue = 16384
	// packetBlock is what pcapng adds to each frame (Enhanced Packet Block, without
	// options), which is itself padded to 32 bits.
	packetBlock = 32
)

// CaptureStats say what a capture file holds.
type CaptureStats struct {
	Frames    uint64 // in the file
	Bytes     uint64 // of the frames in the file
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
	full    atomic.Bool // the writer takes no more
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
	frame []byte // nil announces the port
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
		s.mu.Lock()
		ports = append(ports, s.ports...)
		change(&s.captures, func(all []*Capture) []*Capture { return append(all, c) })
		s.mu.Unlock()
	}
	go func() { c.written <- c.write(ports) }()
	return c, nil
}

// announce tells the captures of a new port, so that it has its interface also if
// no frame passes there.
func (s *Switch) announce(p *Port) {
	if all := s.captures.Load(); all != nil {
		for _, c := range *all {
			c.offer(captured{port: p})
		}
	}
}

// record offers a frame to the captures of the switch.
func (s *Switch) record(p *Port, frame []byte) {
	all := s.captures.Load()
	if all == nil {
		return
	}
	now := time.Now()
	for _, c := range *all {
		c.offer(captured{port: p, at: now, frame: frame})
	}
}

func (c *Capture) offer(f captured) {
	if c.full.Load() {
		return
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.ended {
		return
	}
	select {
	case c.frames <- f:
	default: // the switch never waits for the disk
		if f.frame != nil {
			c.lost.Add(1)
		}
	}
}

// write is the writer's goroutine. It always empties the queue.
func (c *Capture) write(ports []*Port) error {
	out := bufio.NewWriterSize(c.file, 1<<20)
	w := &captureWriter{out: out, interfaces: map[*Port]int{}}
	fits := uint64(0)
	var failed error
	for _, p := range ports {
		if _, err := w.add(p); err != nil {
			failed = err
		}
	}
	for f := range c.frames {
		if failed != nil || c.stats.Truncated {
			continue
		}
		if f.frame == nil {
			_, failed = w.add(f.port)
			continue
		}
		fits += packetBlock + (uint64(len(f.frame))+3)&^3
		if fits > c.options.MaxBytes {
			c.stats.Truncated = true
			c.full.Store(true)
			continue
		}
		if failed = w.packet(f); failed != nil {
			c.full.Store(true)
			continue
		}
		c.stats.Frames++
		c.stats.Bytes += uint64(len(f.frame))
	}
	if failed == nil {
		failed = w.finish(c.switches[0])
	}
	return errors.Join(failed, out.Flush(), c.file.Close())
}

// captureWriter knows which port has which interface.
type captureWriter struct {
	out        io.Writer
	ng         *pcapgo.NgWriter // nil before the first interface, with which it must start
	interfaces map[*Port]int
}

func (w *captureWriter) add(p *Port) (int, error) {
	if i, ok := w.interfaces[p]; ok {
		return i, nil
	}
	i, err := w.addNamed(p.String())
	w.interfaces[p] = i
	return i, err
}

func (w *captureWriter) addNamed(name string) (i int, err error) {
	description := pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}
	if w.ng == nil {
		w.ng, err = pcapgo.NewNgWriterInterface(w.out, description, pcapgo.DefaultNgWriterOptions)
		return 0, err
	}
	return w.ng.AddInterface(description)
}

func (w *captureWriter) packet(f captured) error {
	i, err := w.add(f.port)
	if err != nil {
		return err
	}
	return w.ng.WritePacket(gopacket.CaptureInfo{
		Timestamp: f.at, CaptureLength: len(f.frame), Length: len(f.frame), InterfaceIndex: i,
	}, f.frame)
}

// finish writes what is buffered. A capture of a switch that never had a port gets
// the switch itself as its interface: an empty file would be no pcapng.
func (w *captureWriter) finish(s *Switch) error {
	if w.ng == nil {
		if _, err := w.addNamed(s.name); err != nil {
			return err
		}
	}
	return w.ng.Flush()
}

// Stop ends the recording and completes the file. After an error the file keeps its
// temporary name. It may be called twice.
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

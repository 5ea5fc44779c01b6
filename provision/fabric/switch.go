// Package fabric is a virtual network inside one process: learning L2 switches,
// a router, and vantages to speak from. Virtual machines attach over connected
// streams with QEMU's framing. Every frame passes through here, so any link can
// be cut or degraded in either direction and every packet can be recorded.
// Nothing of it touches the host's network.
package fabric

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// MTU is that of every link, in bytes of IP packet, as on the Ethernet of a real site.
const MTU = 1500

const (
	ethernetHeader = 14
	// maxFrame bounds what a device may send: an Ethernet jumbo frame and then some.
	maxFrame = 64<<10 + ethernetHeader
	// macAge is how long an address is remembered after it was last seen (IEEE 802.1D, 7.9.2).
	macAge = 300 * time.Second
	// macLimit bounds the table against a device that makes up addresses. What does
	// not fit is flooded, as by a real switch.
	macLimit = 8192
)

type mac [6]byte

// MACEntry is one line of a switch's MAC table.
type MACEntry struct {
	MAC  net.HardwareAddr
	Port string
	Age  time.Duration
}

// Switch is a learning Ethernet switch. Its methods are safe for concurrent use.
type Switch struct {
	name string

	mu     sync.RWMutex
	ports  []*Port // replaced, never changed in place
	table  map[mac]*learned
	closed bool

	captures  atomic.Pointer[[]*Capture]
	observers atomic.Pointer[[]*observer]
}

type learned struct {
	port *Port
	seen atomic.Int64 // sinceStart
}

var start = time.Now()

// sinceStart is a clock that costs half of what time.Now does, and never jumps.
func sinceStart() int64 { return int64(time.Since(start)) }

// NewSwitch makes a switch without ports.
func NewSwitch(name string) *Switch {
	return &Switch{name: name, table: map[mac]*learned{}}
}

// Name is the switch's name, as captures show it.
func (s *Switch) Name() string { return s.name }

// Attach adds a port. Frames for the device are given to receive from one
// goroutine, in batches and in order. It may keep the frames, not the slice that
// holds them, and must change neither. After Close of the switch the port is dead
// from the start.
func (s *Switch) Attach(name string, receive func(frames [][]byte)) *Port {
	return s.attach(name, receive, nil, nil)
}

// attach is Attach for a device that is read from as well: the port closes when
// read returns, and onClose makes it return.
func (s *Switch) attach(name string, receive func([][]byte), read func(send func([]byte)), onClose func()) *Port {
	p := &Port{sw: s, name: name, queue: newQueue(), onClose: onClose}
	p.in.init(&p.drops, func(frame []byte) { s.forward(p, frame) })
	p.out.init(&p.drops, p.deliver)
	p.worker.Go(func() { p.queue.drain(receive) })
	if read != nil {
		p.worker.Go(func() {
			read(p.Send)
			p.shut()
		})
	}
	s.mu.Lock()
	closed := s.closed || p.closed.Load() // the device may be gone already
	if !closed {
		s.ports = append(slices.Clone(s.ports), p)
		s.announce(p)
	}
	s.mu.Unlock()
	if closed {
		p.shut()
	}
	return p
}

// forward sends a frame that came in on a port to where it belongs.
func (s *Switch) forward(from *Port, frame []byte) {
	s.observe(from, frame)
	dst, src := mac(frame[0:6]), mac(frame[6:12])
	now := sinceStart()
	s.mu.RLock()
	known := s.table[src]
	to := s.table[dst]
	ports := s.ports
	s.mu.RUnlock()

	if src[0]&1 == 0 { // a group address is never a source (IEEE 802.3)
		if known == nil || known.port != from {
			s.learn(src, from, now)
		} else {
			known.seen.Store(now)
		}
	}
	if dst[0]&1 == 0 && to != nil && to.age(now) < macAge {
		if to.port != from {
			to.port.out.pass(frame)
		}
		return
	}
	for _, p := range ports {
		if p != from {
			p.out.pass(frame)
		}
	}
}

func (s *Switch) learn(src mac, from *Port, now int64) {
	l := &learned{port: from}
	l.seen.Store(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.ports, from) {
		return
	}
	if _, known := s.table[src]; !known && len(s.table) >= macLimit {
		maps.DeleteFunc(s.table, func(_ mac, l *learned) bool { return l.age(now) >= macAge })
		if len(s.table) >= macLimit {
			return
		}
	}
	s.table[src] = l
}

func (l *learned) age(now int64) time.Duration { return time.Duration(now - l.seen.Load()) }

// Table returns the MAC table, by address, without what is too old to be used.
func (s *Switch) Table() []MACEntry {
	now := sinceStart()
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]MACEntry, 0, len(s.table))
	for address, l := range s.table {
		if age := l.age(now); age < macAge {
			all = append(all, MACEntry{MAC: net.HardwareAddr(address[:]), Port: l.port.name, Age: age})
		}
	}
	slices.SortFunc(all, func(a, b MACEntry) int { return slices.Compare(a.MAC, b.MAC) })
	return all
}

// Flush forgets every learned address, as after a change of topology.
func (s *Switch) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.table)
}

// Ports are the switch's ports in the order in which they were attached.
func (s *Switch) Ports() []*Port {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.ports)
}

// Close closes every port and returns when nothing is delivered any more.
func (s *Switch) Close() {
	s.mu.Lock()
	s.closed = true
	ports := s.ports
	s.mu.Unlock()
	for _, p := range ports {
		p.Close()
	}
}

func (s *Switch) detach(p *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports = slices.DeleteFunc(slices.Clone(s.ports), func(q *Port) bool { return q == p })
	for address, l := range s.table {
		if l.port == p {
			delete(s.table, address)
		}
	}
}

// Port is where a device is attached to a switch.
type Port struct {
	sw      *Switch
	name    string
	in, out lane // from and to the device
	queue   *queue
	worker  sync.WaitGroup
	closed  atomic.Bool
	onClose func()
	once    sync.Once

	sent, received counter // by and to the device
	drops          drops
}

type counter struct{ frames, bytes atomic.Uint64 }

func (c *counter) add(frame []byte) {
	c.frames.Add(1)
	c.bytes.Add(uint64(len(frame)))
}

type drops struct{ queue, cut, loss, filter, malformed atomic.Uint64 }

// PortStats count a port's frames since it was attached.
type PortStats struct {
	FromFrames, FromBytes uint64 // from the device
	ToFrames, ToBytes     uint64 // to the device
	// Dropped frames by cause: the device did not keep up, the link was cut, the
	// link's loss, a filter, no Ethernet frame.
	DropQueue, DropCut, DropLoss, DropFilter, DropMalformed uint64
}

// Name is the port's name.
func (p *Port) Name() string { return p.name }

// Stats returns the counters.
func (p *Port) Stats() PortStats {
	return PortStats{
		FromFrames: p.sent.frames.Load(), FromBytes: p.sent.bytes.Load(),
		ToFrames: p.received.frames.Load(), ToBytes: p.received.bytes.Load(),
		DropQueue: p.drops.queue.Load(), DropCut: p.drops.cut.Load(), DropLoss: p.drops.loss.Load(),
		DropFilter: p.drops.filter.Load(), DropMalformed: p.drops.malformed.Load(),
	}
}

// Send puts a frame from the device into the network. The frame must not be
// changed afterwards: it is shared by everyone who receives it.
func (p *Port) Send(frame []byte) {
	if p.closed.Load() {
		return
	}
	if len(frame) < ethernetHeader || len(frame) > maxFrame {
		p.drops.malformed.Add(1)
		return
	}
	p.sent.add(frame)
	p.sw.record(p, frame)
	p.in.pass(frame)
}

// deliver queues a frame for the device.
func (p *Port) deliver(frame []byte) {
	if p.closed.Load() {
		return
	}
	if !p.queue.put(frame, p) {
		p.drops.queue.Add(1)
		return
	}
	p.received.add(frame)
}

// Close detaches the port and returns when nothing more is delivered to the
// device. It must not be called from the port's own receive function. It may be
// called twice.
func (p *Port) Close() {
	p.shut()
	p.worker.Wait()
}

// shut is Close for the port's own goroutines: it does not wait for them.
func (p *Port) shut() {
	p.once.Do(func() {
		p.closed.Store(true)
		p.sw.detach(p)
		p.in.close()
		p.out.close()
		p.queue.close()
		if p.onClose != nil {
			p.onClose()
		}
	})
}

// etherType reads a frame's EtherType; 802.1Q tags are not looked into.
func etherType(frame []byte) uint16 { return binary.BigEndian.Uint16(frame[12:14]) }

func (p *Port) String() string { return fmt.Sprintf("%s/%s", p.sw.name, p.name) }

// queueLimit is how many frames may wait for a device.
const queueLimit = 4096

// queue hands frames from many senders to one receiver, in batches. Senders
// never wait: a synchronous delivery could come back to a sender that holds its
// own locks.
type queue struct {
	mu     sync.Mutex
	frames [][]byte
	closed bool
	wake   chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// put records the frame for the port's captures before the receiver can answer it,
// so that they never show an answer before its question.
func (q *queue) put(frame []byte, p *Port) bool {
	q.mu.Lock()
	if q.closed || len(q.frames) >= queueLimit {
		q.mu.Unlock()
		return false
	}
	p.sw.record(p, frame)
	q.frames = append(q.frames, frame)
	first := len(q.frames) == 1
	q.mu.Unlock()
	if first {
		q.signal()
	}
	return true
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// drain gives the frames to receive until the queue is closed.
func (q *queue) drain(receive func([][]byte)) {
	var spare [][]byte
	for range q.wake {
		for {
			q.mu.Lock()
			if q.closed {
				q.mu.Unlock()
				return
			}
			batch := q.frames
			q.frames = spare
			q.mu.Unlock()
			if len(batch) == 0 {
				spare = batch
				break
			}
			receive(batch)
			clear(batch)
			spare = batch[:0]
		}
	}
}

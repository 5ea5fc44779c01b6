package fabric

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Direction is one of the two ways across a link.
type Direction int

// The directions, as the attached device sees them.
const (
	FromDevice Direction = iota
	ToDevice
)

// Impairment is what a link does to frames in one direction. The zero value is
// a perfect link.
type Impairment struct {
	Cut   bool          // nothing gets through
	Loss  float64       // share of frames lost, 0 to 1, independently of each other
	Delay time.Duration // of every frame; their order is kept
}

// SetImpairment changes a direction of the link from now on. Frames that are
// under way with a delay still arrive after it.
func (p *Port) SetImpairment(d Direction, i Impairment) { p.lane(d).set(i) }

// Impairment returns what a direction of the link does now.
func (p *Port) Impairment(d Direction) Impairment {
	if i := p.lane(d).impairment.Load(); i != nil {
		return *i
	}
	return Impairment{}
}

// SetFilter lets only those frames through for which accept returns true; nil
// removes the filter. It is called concurrently and must not change the frame.
func (p *Port) SetFilter(d Direction, accept func(frame []byte) bool) {
	l := p.lane(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	if accept == nil {
		l.filter.Store(nil)
	} else {
		l.filter.Store(&accept)
	}
	l.settle()
}

// SeedLoss makes a port's losses repeatable.
func (p *Port) SeedLoss(seed uint64) {
	for _, l := range []*lane{&p.in, &p.out} {
		l.mu.Lock()
		l.random = rand.New(rand.NewPCG(seed, seed))
		l.mu.Unlock()
	}
}

func (p *Port) lane(d Direction) *lane {
	if d == FromDevice {
		return &p.in
	}
	return &p.out
}

// lane is one direction of a link.
type lane struct {
	next       func(frame []byte)
	drops      *drops
	slow       atomic.Bool                // any of the following three is set
	impairment atomic.Pointer[Impairment] // nil: none
	filter     atomic.Pointer[func([]byte) bool]
	delayed    atomic.Int64 // frames on the delay line

	mu     sync.Mutex // the three are changed under it
	random *rand.Rand // nil: the global source
	line   chan delayedFrame
	last   time.Time // when the frame that was delayed last is due
	stop   chan struct{}
	done   sync.WaitGroup
	closed bool
}

type delayedFrame struct {
	frame []byte
	due   time.Time
}

func (l *lane) init(d *drops, next func([]byte)) {
	l.drops, l.next, l.stop = d, next, make(chan struct{})
}

func (l *lane) set(i Impairment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i == (Impairment{}) {
		l.impairment.Store(nil)
	} else {
		l.impairment.Store(&i)
	}
	l.settle()
}

// settle decides whether frames may take the short way. l.mu is held.
func (l *lane) settle() {
	l.slow.Store(l.impairment.Load() != nil || l.filter.Load() != nil || l.delayed.Load() > 0)
}

// pass lets a frame through the link, now or later, or drops it.
func (l *lane) pass(frame []byte) {
	if !l.slow.Load() {
		l.next(frame)
		return
	}
	if accept := l.filter.Load(); accept != nil && !(*accept)(frame) {
		l.drops.filter.Add(1)
		return
	}
	i := l.impairment.Load()
	if i == nil {
		i = &Impairment{} // only to keep the order behind what is delayed
	}
	switch {
	case i.Cut:
		l.drops.cut.Add(1)
	case i.Loss > 0 && l.float() < i.Loss:
		l.drops.loss.Add(1)
	case i.Delay > 0 || l.delayed.Load() > 0:
		l.delay(frame, i.Delay)
	default:
		l.next(frame)
	}
}

func (l *lane) float() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.random == nil {
		return rand.Float64()
	}
	return l.random.Float64()
}

func (l *lane) delay(frame []byte, by time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if l.line == nil {
		l.line = make(chan delayedFrame, queueLimit)
		l.done.Go(l.run)
	}
	due := time.Now().Add(by)
	if due.Before(l.last) {
		due = l.last
	}
	select {
	case l.line <- delayedFrame{frame, due}:
		l.last = due
		l.delayed.Add(1) // the runner takes it off again under the lock that we hold
		l.settle()
	default:
		l.drops.queue.Add(1)
	}
}

// run is the delay line.
func (l *lane) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.stop:
			return
		case f := <-l.line:
			if wait := time.Until(f.due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-l.stop:
					return
				case <-timer.C:
				}
			}
			l.next(f.frame)
			l.mu.Lock()
			if l.delayed.Add(-1) == 0 {
				l.settle()
			}
			l.mu.Unlock()
		}
	}
}

func (l *lane) close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.stop)
	}
	l.mu.Unlock()
	l.done.Wait()
}

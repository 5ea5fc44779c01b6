package fabric

import (
	"encoding/binary"
	"sync"
	"testing"
)

func TestKnownAddressesAreNotFlooded(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	var mu sync.Mutex
	got := map[string]int{}
	seen := make(chan struct{}, 100)
	port := func(name string) *Port {
		return sw.Attach(name, func(frames [][]byte) {
			mu.Lock()
			got[name] += len(frames)
			mu.Unlock()
			for range frames {
				seen <- struct{}{}
			}
		})
	}
	a, b, c := port("a"), port("b"), port("c")
	frame := func(dst, src byte) []byte {
		return []byte{2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 0x88, 0xb5, 0}
	}
	a.Send(frame(2, 1)) // unknown: flooded to b and c
	<-seen
	<-seen
	b.Send(frame(1, 2)) // a is known by now
	<-seen
	a.Send(frame(2, 1)) // and so is b
	<-seen
	mu.Lock()
	if got["a"] != 1 || got["b"] != 2 || got["c"] != 1 {
		t.Errorf("frames: %v, want a 1, b 2 and c only the flooded one", got)
	}
	mu.Unlock()
	if table := sw.Table(); len(table) != 2 || table[0].Port != "a" || table[1].Port != "b" {
		t.Errorf("MAC table: %v", table)
	}
	b.Close()
	if table := sw.Table(); len(table) != 1 {
		t.Errorf("a closed port's address is still in the table: %v", table)
	}
	sw.Flush()
	if len(sw.Table()) != 0 {
		t.Error("a flushed table is not empty")
	}
	c.Send([]byte{1, 2, 3})
	if c.Stats().DropMalformed != 1 {
		t.Error("a frame without a header was let through")
	}
}

func TestTheTableIsBounded(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	p := sw.Attach("p", func([][]byte) {})
	for n := range uint32(macLimit + 100) {
		frame := []byte{2, 0, 0, 0, 0, 1, 2, 1, 0, 0, 0, 0, 0x88, 0xb5}
		binary.BigEndian.PutUint32(frame[8:], n)
		p.Send(frame)
	}
	if n := len(sw.Table()); n != macLimit {
		t.Errorf("%d addresses, want %d", n, macLimit)
	}
}

func TestAnAddressThatMovesIsFollowed(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	got := make(chan string, 10)
	port := func(name string) *Port {
		return sw.Attach(name, func(frames [][]byte) {
			for range frames {
				got <- name
			}
		})
	}
	a, b, c := port("a"), port("b"), port("c")
	moving := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x88, 0xb5}
	toIt := []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}
	for _, at := range []struct {
		port *Port
		name string
	}{{b, "b"}, {c, "c"}, {b, "b"}} {
		at.port.Send(moving) // flooded to the two others
		<-got
		<-got
		a.Send(toIt)
		if name := <-got; name != at.name {
			t.Errorf("went to %s, want %s", name, at.name)
		}
	}
}

package fabric

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func streamPair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return conns[0], conns[1]
}

func TestStream(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	got := make(chan []byte, 10)
	other := sw.Attach("other", func(frames [][]byte) {
		for _, f := range frames {
			got <- f
		}
	})
	ours, qemu := streamPair(t)
	defer qemu.Close()
	p := sw.AttachStream("vm", ours)
	frame := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, 42}
	if _, err := qemu.Write(append([]byte{0, 0, 0, 15}, frame...)); err != nil {
		t.Fatal(err)
	}
	if f := <-got; string(f) != string(frame) {
		t.Errorf("got %x", f)
	}
	other.Send(frame)
	back := make([]byte, 19)
	if _, err := io.ReadFull(qemu, back); err != nil || string(back) != "\x00\x00\x00\x0f"+string(frame) {
		t.Errorf("got %x, %v", back, err)
	}
	// A length that no frame has: the stream is given up.
	if _, err := qemu.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if _, err := qemu.Read(back); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the stream closed", err)
	}
	p.Close() // waits for the reader's own close
	if slices.ContainsFunc(sw.Ports(), func(q *Port) bool { return q == p }) {
		t.Error("the port of an ended stream is still attached")
	}
}

func FuzzReadFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 42, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		total := 0
		r := bytes.NewReader(stream)
		_ = readFrames(r, func(frame []byte) { total += len(frame) + lengthSize })
		if total > len(stream) {
			t.Errorf("%d bytes of frames out of %d", total, len(stream))
		}
	})
}

func TestStreamEnds(t *testing.T) {
	t.Run("the device's end", func(t *testing.T) {
		sw := NewSwitch("s")
		defer sw.Close()
		ours, qemu := streamPair(t)
		p := sw.AttachStream("vm", ours)
		qemu.Close()
		p.worker.Wait() // ends by itself
		if len(sw.Ports()) != 0 {
			t.Error("the port of an ended stream is still attached")
		}
	})
	t.Run("in the middle of a frame", func(t *testing.T) {
		sw := NewSwitch("s")
		defer sw.Close()
		ours, qemu := streamPair(t)
		p := sw.AttachStream("vm", ours)
		if _, err := qemu.Write([]byte{0, 0, 0, 60, 1, 2, 3}); err != nil {
			t.Fatal(err)
		}
		qemu.Close()
		p.worker.Wait()
		if n := p.Stats().FromFrames; n != 0 {
			t.Errorf("%d frames from a part of one", n)
		}
	})
	t.Run("switch closed before", func(t *testing.T) {
		sw := NewSwitch("s")
		sw.Close()
		ours, qemu := streamPair(t)
		defer qemu.Close()
		sw.AttachStream("vm", ours).Close()
		if _, err := qemu.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the stream closed", err)
		}
	})
	t.Run("device that does not read", func(t *testing.T) {
		sw := NewSwitch("s")
		ours, qemu := streamPair(t)
		defer qemu.Close()
		vm := sw.AttachStream("vm", ours)
		src := sw.Attach("src", func([][]byte) {})
		frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, make([]byte, 1400)...)
		for range 4 * queueLimit {
			src.Send(frame)
		}
		if vm.Stats().DropQueue == 0 {
			t.Error("nothing was dropped")
		}
		sw.Close() // while a write waits
	})
}

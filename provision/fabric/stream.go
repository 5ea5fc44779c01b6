package fabric

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// The framing of QEMU's -netdev stream: a big-endian length of four bytes, then
// that many bytes of one Ethernet frame (QEMU, net/stream.c).
const lengthSize = 4

// AttachStream adds a port whose device is at the other end of a connected
// stream. The port closes when the stream ends, and the stream with the port. A
// device that does not read (a paused machine) loses frames as any slow device does.
func (s *Switch) AttachStream(name string, conn net.Conn) *Port {
	var header [lengthSize]byte
	out := bufio.NewWriterSize(conn, 256<<10)
	write := func(frames [][]byte) {
		for _, f := range frames {
			binary.BigEndian.PutUint32(header[:], uint32(len(f)))
			// A write error is kept by the writer and means that the reader ends as well.
			_, _ = out.Write(header[:])
			_, _ = out.Write(f)
		}
		_ = out.Flush()
	}
	// Whatever ended the stream, the link is down then; a device that lost its
	// framing cannot be understood any more.
	read := func(send func([]byte)) { _ = readFrames(conn, send) }
	return s.attach(name, write, read, func() { conn.Close() })
}

// errFrameLength says that a stream lost its framing.
var errFrameLength = errors.New("frame length out of range")

// readFrames gives each frame of a stream to send until the stream ends. Its
// error is nil at an orderly end.
func readFrames(r io.Reader, send func([]byte)) error {
	in := bufio.NewReaderSize(r, 256<<10)
	var header [lengthSize]byte
	for {
		if _, err := io.ReadFull(in, header[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read a frame's length: %w", err)
		}
		n := binary.BigEndian.Uint32(header[:])
		if n == 0 || n > maxFrame {
			return fmt.Errorf("%w: %d", errFrameLength, n)
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(in, frame); err != nil {
			return fmt.Errorf("read a frame of %d bytes: %w", n, err)
		}
		send(frame)
	}
}

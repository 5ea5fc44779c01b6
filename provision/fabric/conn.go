package fabric

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

// errnos maps the netstack's errors to those of a real host. gonet hands them on
// as text only.
var errnos = map[string]syscall.Errno{
	(&tcpip.ErrConnectionRefused{}).String():  syscall.ECONNREFUSED,
	(&tcpip.ErrConnectionReset{}).String():    syscall.ECONNRESET,
	(&tcpip.ErrConnectionAborted{}).String():  syscall.ECONNABORTED,
	(&tcpip.ErrHostUnreachable{}).String():    syscall.EHOSTUNREACH,
	(&tcpip.ErrHostDown{}).String():           syscall.EHOSTDOWN,
	(&tcpip.ErrNetworkUnreachable{}).String(): syscall.ENETUNREACH,
	(&tcpip.ErrNoNet{}).String():              syscall.ENETUNREACH,
	(&tcpip.ErrTimeout{}).String():            syscall.ETIMEDOUT,
	(&tcpip.ErrPortInUse{}).String():          syscall.EADDRINUSE,
	(&tcpip.ErrNoPortAvailable{}).String():    syscall.EADDRNOTAVAIL,
	(&tcpip.ErrBadLocalAddress{}).String():    syscall.EADDRNOTAVAIL,
	(&tcpip.ErrMessageTooLong{}).String():     syscall.EMSGSIZE,
	(&tcpip.ErrClosedForSend{}).String():      syscall.EPIPE,
	(&tcpip.ErrAborted{}).String():            syscall.ECONNABORTED,
}

func errnoOf(text string) error {
	if errno, ok := errnos[text]; ok {
		return errno
	}
	return errors.New(text)
}

// translate turns an error of gonet into one of package net.
func translate(op, network string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	out := &net.OpError{Op: op, Net: network, Err: err}
	var inner *net.OpError
	if errors.As(err, &inner) {
		out.Source, out.Addr, out.Err = inner.Source, inner.Addr, inner.Err
	}
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
	case errors.As(out.Err, &timeout) && timeout.Timeout():
		out.Err = os.ErrDeadlineExceeded
	default:
		out.Err = errnoOf(out.Err.Error())
	}
	return out
}

// tcpConn is a TCP connection of a vantage.
type tcpConn struct{ *gonet.TCPConn }

func (c *tcpConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	return n, translate("read", "tcp", err)
}

func (c *tcpConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, translate("write", "tcp", err)
}

// udpConn is a connected UDP socket of a vantage. gonet's does not wake a reader
// for an ICMP error; this one does, as a real host's does.
type udpConn struct {
	*gonet.UDPConn
	wq     *waiter.Queue
	events waiter.Entry

	mu       sync.Mutex
	icmp     bool // an ICMP error came and nobody has read it
	deadline time.Time
}

func newUDPConn(wq *waiter.Queue, ep tcpip.Endpoint) *udpConn {
	c := &udpConn{UDPConn: gonet.NewUDPConn(wq, ep), wq: wq}
	c.events = waiter.NewFunctionEntry(waiter.EventErr, func(waiter.EventMask) { c.wakeReader() })
	wq.EventRegister(&c.events)
	return c
}

var longAgo = time.Unix(1, 0)

// wakeReader ends a read that waits, so that it finds the error.
func (c *udpConn) wakeReader() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.icmp = true
	_ = c.UDPConn.SetReadDeadline(longAgo) // it cannot fail
}

// claimError puts the reader's own deadline back after it was woken.
func (c *udpConn) claimError() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.icmp {
		return false
	}
	c.icmp = false
	_ = c.UDPConn.SetReadDeadline(c.deadline)
	return true
}

func (c *udpConn) Read(b []byte) (int, error) {
	for {
		n, err := c.UDPConn.Read(b)
		if errors.Is(translate("read", "udp", err), os.ErrDeadlineExceeded) && c.claimError() {
			continue
		}
		return n, translate("read", "udp", err)
	}
}

func (c *udpConn) Write(b []byte) (int, error) {
	n, err := c.UDPConn.Write(b)
	return n, translate("write", "udp", err)
}

func (c *udpConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.icmp {
		return nil // the reader is being woken: it sets the new deadline then
	}
	return c.UDPConn.SetReadDeadline(t)
}

func (c *udpConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *udpConn) Close() error {
	c.wq.EventUnregister(&c.events)
	return c.UDPConn.Close()
}

package fabric

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

// errnos maps the netstack's errors to those of a real host. gonet hands them on
// as text only.
var errnos = map[string]error{
	(&tcpip.ErrConnectionRefused{}).String():    syscall.ECONNREFUSED,
	(&tcpip.ErrConnectionReset{}).String():      syscall.ECONNRESET,
	(&tcpip.ErrConnectionAborted{}).String():    syscall.ECONNABORTED,
	(&tcpip.ErrHostUnreachable{}).String():      syscall.EHOSTUNREACH,
	(&tcpip.ErrHostDown{}).String():             syscall.EHOSTDOWN,
	(&tcpip.ErrNetworkUnreachable{}).String():   syscall.ENETUNREACH,
	(&tcpip.ErrNoNet{}).String():                syscall.ENETUNREACH,
	(&tcpip.ErrTimeout{}).String():              syscall.ETIMEDOUT,
	(&tcpip.ErrPortInUse{}).String():            syscall.EADDRINUSE,
	(&tcpip.ErrNoPortAvailable{}).String():      syscall.EADDRNOTAVAIL,
	(&tcpip.ErrBadLocalAddress{}).String():      syscall.EADDRNOTAVAIL,
	(&tcpip.ErrMessageTooLong{}).String():       syscall.EMSGSIZE,
	(&tcpip.ErrClosedForSend{}).String():        syscall.EPIPE,
	(&tcpip.ErrAborted{}).String():              syscall.ECONNABORTED,
	(&tcpip.ErrInvalidEndpointState{}).String(): net.ErrClosed,
}

func errnoOf(text string) error {
	if err, ok := errnos[text]; ok {
		return err
	}
	return errors.New(text)
}

// translate turns an error of gonet into one of package net. The end of a stream
// stays io.EOF itself.
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
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed):
	case errors.As(out.Err, &timeout) && timeout.Timeout():
		out.Err = os.ErrDeadlineExceeded
	default:
		out.Err = errnoOf(out.Err.Error())
	}
	return out
}

// socket is what the connections and listeners of a vantage have in common: they
// know whether it was we who closed them. The netstack reports our own close as
// the end of the stream or as an abort, which a prober would take for the site's.
type socket struct {
	vantage *Vantage
	network string
	closed  atomic.Bool
}

func (s *socket) fail(op string, err error) error {
	if err != nil && (s.closed.Load() || s.vantage.isClosed()) {
		return &net.OpError{Op: op, Net: s.network, Err: net.ErrClosed}
	}
	return translate(op, s.network, err)
}

// listener accepts TCP connections.
type listener struct {
	*gonet.TCPListener
	socket socket
}

func newListener(v *Vantage, l *gonet.TCPListener) *listener {
	return &listener{TCPListener: l, socket: socket{vantage: v, network: "tcp"}}
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.TCPListener.Accept()
	if err != nil {
		return nil, l.socket.fail("accept", err)
	}
	return newTCPConn(l.socket.vantage, conn.(*gonet.TCPConn)), nil
}

func (l *listener) Close() error {
	l.socket.closed.Store(true)
	return l.TCPListener.Close()
}

// tcpConn is a TCP connection of a vantage.
type tcpConn struct {
	*gonet.TCPConn
	socket  socket
	options *tcpip.SocketOptions // of a connection that was dialled
}

func newTCPConn(v *Vantage, c *gonet.TCPConn) *tcpConn {
	return &tcpConn{TCPConn: c, socket: socket{vantage: v, network: "tcp"}}
}

func (c *tcpConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	return n, c.socket.fail("read", err)
}

func (c *tcpConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, c.socket.fail("write", err)
}

// SetLinger is net.TCPConn's, for the one value that probes need: with 0 seconds
// Close resets the connection instead of ending it in order.
func (c *tcpConn) SetLinger(sec int) error {
	if sec != 0 || c.options == nil {
		return &net.OpError{Op: "set", Net: c.socket.network, Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: syscall.EINVAL}
	}
	c.options.SetLinger(tcpip.LingerOption{Enabled: true})
	return nil
}

func (c *tcpConn) CloseRead() error  { return c.socket.fail("close", c.TCPConn.CloseRead()) }
func (c *tcpConn) CloseWrite() error { return c.socket.fail("close", c.TCPConn.CloseWrite()) }

func (c *tcpConn) Close() error {
	c.socket.closed.Store(true)
	return c.TCPConn.Close()
}

// udpConn is a UDP socket of a vantage, connected or not. gonet's does not wake a
// reader for an ICMP error; this one does, as a real host's does.
type udpConn struct {
	*gonet.UDPConn
	socket socket
	wq     *waiter.Queue
	events waiter.Entry

	mu       sync.Mutex
	icmp     bool // an ICMP error came and no reader has been woken for it
	deadline time.Time
}

func newUDPConn(v *Vantage, wq *waiter.Queue, ep tcpip.Endpoint) *udpConn {
	c := &udpConn{UDPConn: gonet.NewUDPConn(wq, ep), wq: wq, socket: socket{vantage: v, network: "udp"}}
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
	n, _, err := c.ReadFrom(b)
	return n, err
}

func (c *udpConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.UDPConn.ReadFrom(b)
		if errors.Is(err, io.EOF) { // there is no end of stream in UDP: the socket is gone
			err = net.ErrClosed
		}
		err = c.socket.fail("read", err)
		if errors.Is(err, os.ErrDeadlineExceeded) && c.claimError() {
			continue
		}
		return n, from, err
	}
}

func (c *udpConn) Write(b []byte) (int, error) {
	n, err := c.UDPConn.Write(b)
	return n, c.socket.fail("write", err)
}

func (c *udpConn) WriteTo(b []byte, to net.Addr) (int, error) {
	at, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: "udp", Addr: to, Err: syscall.EINVAL}
	}
	// The netstack takes the 16-byte form of an IPv4 address, which net.ParseIP
	// gives, for an IPv6 address.
	remote := unmap(at.AddrPort())
	n, err := c.UDPConn.WriteTo(b, net.UDPAddrFromAddrPort(remote))
	return n, c.socket.fail("write", err)
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
	c.socket.closed.Store(true)
	c.wq.EventUnregister(&c.events)
	return c.UDPConn.Close()
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

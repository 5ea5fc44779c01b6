package probes

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hiveproof/hiveproof/probes/whoami"
)

// Dialer connects as net.Dialer does, from a fresh local port each time, and
// reports errors as it does (syscall.Errno within). A vantage of the lab's
// network is one. A connection for "udp" must be a net.PacketConn as well: the
// DNS library tells the two framings apart by that.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Ask is a question to be put.
type Ask struct {
	Client   Client
	Endpoint Endpoint
	Dialer   Dialer
}

// Options of Collect.
type Options struct {
	// Timeout of one exchange, from dialling to the answer; 0 is 5 seconds.
	Timeout time.Duration
	// Progress is given each exchange when it ends, one at a time; it may be nil.
	Progress func(Exchange)
}

const defaultTimeout = 5 * time.Second

// Collect puts all questions: those of one client one after another, in order,
// different clients at the same time, so that no two are ever under way between
// one client and one endpoint. There is one exchange for each question, in the
// order in which they started. When ctx ends, those that are left are Aborted.
func Collect(ctx context.Context, asks []Ask, opts Options) []Exchange {
	if opts.Timeout == 0 {
		opts.Timeout = defaultTimeout
	}
	all := make([]Exchange, len(asks))
	byClient := map[Client][]int{}
	var clients []Client
	for i, a := range asks {
		if byClient[a.Client] == nil {
			clients = append(clients, a.Client)
		}
		byClient[a.Client] = append(byClient[a.Client], i)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, c := range clients {
		wg.Go(func() {
			for _, i := range byClient[c] {
				x := Exchange1(ctx, asks[i], opts.Timeout)
				mu.Lock()
				all[i] = x
				if opts.Progress != nil {
					opts.Progress(x)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.SortStableFunc(all, func(a, b Exchange) int { return a.Start.Compare(b.Start) })
	return all
}

// Exchange1 puts one question and always returns an exchange, never an error.
// Nothing is retried: a second try is a second exchange.
func Exchange1(ctx context.Context, a Ask, timeout time.Duration) Exchange {
	x := Exchange{Client: a.Client, Endpoint: a.Endpoint, Start: time.Now()}
	if ctx.Err() != nil {
		x.Outcome, x.Err = Aborted, context.Cause(ctx).Error()
		return x
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var err error
	x.Answer, x.LocalAddr, err = ask(limited, a.Dialer, a.Endpoint)
	x.RTT = time.Since(x.Start)
	connected := a.Endpoint.Proto == "tcp" && x.LocalAddr.IsValid() // a UDP socket connects to nobody
	x.Outcome = outcome(ctx, limited, err, connected)
	switch {
	case err == nil:
	case x.Outcome == Aborted:
		x.Err = context.Cause(ctx).Error()
	case x.Outcome == TimedOut || x.Outcome == Connected:
		// err only says that our own socket was closed, or what a deadline is.
		x.Err = fmt.Sprintf("no answer within %s", timeout)
	default:
		x.Err = err.Error()
	}
	return x
}

// ask connects and asks; the client's own end is not valid if it got no connection.
func ask(limited context.Context, d Dialer, e Endpoint) (*whoami.Answer, netip.AddrPort, error) {
	conn, err := d.DialContext(limited, e.Proto, e.Addr.String())
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	// Closing it ends whatever waits when the time is up or the run is over. It is
	// reset, as far as there is a connection: a server that was too slow would go on
	// answering those who have left, and never get to those who have not.
	stop := context.AfterFunc(limited, func() {
		if c, ok := conn.(interface{ SetLinger(int) error }); ok {
			_ = c.SetLinger(0)
		}
		conn.Close()
	})
	defer stop()
	defer conn.Close()
	put := question
	if e.Proto == "tcp" {
		put = questionStream
	}
	a, err := put(conn, e, nonce())
	return a, localAddr(conn), err
}

func localAddr(conn net.Conn) netip.AddrPort {
	p, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// nonce fits a DNS label and does not depend on its letters' case.
func nonce() string { return strings.ToLower(rand.Text()[:20]) }

// errWrong is an answer that is not the agent's to this question.
var errWrong = errors.New("unexpected answer")

// outcome tells apart how an exchange ended.
func outcome(run, limited context.Context, err error, connected bool) Outcome {
	switch {
	case err == nil:
		return Answered
	case run.Err() != nil:
		return Aborted
	case errors.Is(err, errWrong):
		return WrongAnswer
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return Unreachable
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), connected && isEOF(err):
		return Reset
	case limited.Err() != nil, isTimeout(err):
		if connected {
			return Connected
		}
		return TimedOut
	default:
		return Failed
	}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// isTimeout also knows a dialer's own deadline, which may pass a moment before
// the context's.
func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// tally counts what was received on a connection.
type tally struct {
	net.Conn
	received int
}

func (t *tally) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.received += n
	return n, err
}

// questionStream asks over TCP. A peer that spoke and made no sense, or stopped
// in the middle, gave a wrong answer; the parsers would say "unexpected EOF" as of
// one that closed without a word.
func questionStream(conn net.Conn, e Endpoint, nonce string) (*whoami.Answer, error) {
	heard := &tally{Conn: conn}
	a, err := question(heard, e, nonce)
	var network net.Error // of the socket, not of the text
	if err != nil && heard.received > 0 && !errors.Is(err, errWrong) && !errors.As(err, &network) {
		err = fmt.Errorf("%w: %w", errWrong, err)
	}
	return a, err
}

// question asks in the endpoint's protocol. Without an error and without an answer
// it was answered by something that does not say who it is. conn is closed by the caller.
func question(conn net.Conn, e Endpoint, nonce string) (*whoami.Answer, error) {
	var a *whoami.Answer
	var err error
	switch e.App {
	case "echo":
		a, err = askEcho(conn, e.Proto, nonce)
	case "dns":
		a, err = askDNS(conn, e.Plain, nonce)
	case "http":
		a, err = askHTTP(conn, e, nonce)
	case "https":
		a, err = askHTTPS(conn, e, nonce)
	case "mysql":
		err = awaitMySQL(conn)
	case "tcp":
		err = prodTCP(conn)
	case "udp":
		err = prodUDP(conn)
	default:
		return nil, fmt.Errorf("no such application protocol: %q", e.App)
	}
	if err != nil || a == nil {
		return nil, err
	}
	if a.Nonce != nonce {
		return a, fmt.Errorf("%w: its nonce is %q, the question's was %q", errWrong, a.Nonce, nonce)
	}
	return a, nil
}

func decode(text []byte) (*whoami.Answer, error) {
	a := new(whoami.Answer)
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("%w: %.80q", errWrong, text)
	}
	return a, nil
}

func askEcho(conn net.Conn, proto, nonce string) (*whoami.Answer, error) {
	if _, err := fmt.Fprintf(conn, "hiveproof %s\n", nonce); err != nil {
		return nil, err
	}
	if proto == "udp" {
		buf := make([]byte, 64<<10)
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		return decode(buf[:n])
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 64<<10)).ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	return decode(line)
}

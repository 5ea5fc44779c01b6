package probes

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/hiveproof/hiveproof/probes/whoami"
)

// httpError is about a response that is not the one wanted, but is HTTP all the same.
type httpError struct{ error }

func (e httpError) Unwrap() error { return e.error }

// askHTTP asks the agent who it is, and a plain server for its front page; of that
// any answer will do that is not the server's own failure, such as one of a proxy
// that finds nobody behind it (RFC 9110, section 15.6).
func askHTTP(conn net.Conn, e Endpoint, nonce string) (*whoami.Answer, error) {
	path := whoami.Path
	if e.Plain {
		path = "/"
	}
	req, err := http.NewRequest("GET", "http://"+e.Addr.String()+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Hiveproof-Nonce", nonce)
	req.Close = true
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if e.Plain && resp.StatusCode < http.StatusInternalServerError {
		return nil, nil
	}
	if e.Plain || resp.StatusCode != http.StatusOK {
		return nil, httpError{fmt.Errorf("%w: HTTP %s", errWrong, resp.Status)}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, httpError{err}
	}
	a, err := decode(text)
	if err != nil {
		return nil, httpError{err}
	}
	return a, nil
}

// askHTTPS asks over TLS.
func askHTTPS(conn net.Conn, e Endpoint, nonce string) (*whoami.Answer, error) {
	// The question is who answers. A site's certificates are for names that the lab
	// does not have, or its own; whether they are the right ones is judged elsewhere,
	// by their serial numbers.
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	a, err := askHTTP(secure, e, nonce)
	// An alert came from the peer, although it looks like a failure of the network.
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" {
		err = fmt.Errorf("%w: %w", errWrong, err)
	}
	return a, err
}

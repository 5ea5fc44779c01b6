package probes

import (
	"errors"
	"fmt"
	"io"
	"net"
)

// awaitMySQL hears the packet by which a MySQL or MariaDB server begins: its
// greeting of protocol version 10, or an error, such as too many connections.
// (MySQL client/server protocol, connection phase.)
func awaitMySQL(conn net.Conn) error {
	const greeting, failure = 0x0a, 0xff
	var head [5]byte // three of length, one of sequence number, the first of the content
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	// An error may have another sequence number than the first: MariaDB's of too many
	// connections does, and clients put up with it.
	if (head[3] != 0 || head[4] != greeting) && head[4] != failure {
		return fmt.Errorf("%w: %q begins no MySQL session", errWrong, head[:])
	}
	return nil
}

// prodTCP says something that means nothing in most protocols. A word back, or that
// the peer hangs up, shows that a program is there: a port of the mesh may accept
// a connection that leads nowhere.
func prodTCP(conn net.Conn) error {
	_, _ = io.WriteString(conn, "\r\n\r\n") // if the peer has hung up already, reading says so
	n, err := conn.Read(make([]byte, 1))
	if n > 0 || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// prodUDP is content with any datagram, even an empty one.
func prodUDP(conn net.Conn) error {
	if _, err := io.WriteString(conn, "\n"); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 1))
	return err
}

// Package helper is the quick way to an embedded lab's host: a program on the
// host that runs commands, connects to unix sockets and sets the clock, and its
// client. It does what SSH does in package remote, without encryption and
// without a new process a connection: under emulation a restored host answers
// here after half a second, and to SSH after ten.
//
// There is no authentication beyond the network's: the helper accepts
// connections only on the management interface and only from our own address
// there, and the embedded switch lets nobody else send to that interface.
package helper

import "time"

// Port is the helper's TCP port on the management network.
const Port = 57

// request is the first line of a connection, as JSON. What follows depends on
// the operation: opRun's standard input until the client's half-close; opDial's
// bytes in both directions after the reply.
type request struct {
	Op      string    `json:"op"`
	Command string    `json:"command,omitempty"` // opRun: for sh -c
	Stdin   bool      `json:"stdin,omitempty"`   // opRun: standard input follows
	Path    string    `json:"path,omitempty"`    // opDial
	Now     time.Time `json:"now,omitzero"`      // opClock
}

const (
	opRun   = "run"
	opDial  = "dial"
	opClock = "clock"
)

// reply is the helper's only line.
type reply struct {
	Error  string `json:"error,omitempty"` // why the operation was not begun or not finished
	Status int    `json:"status,omitempty"`
	Stdout []byte `json:"stdout,omitempty"`
	Stderr []byte `json:"stderr,omitempty"` // its end
}

const (
	maxRequest = 1 << 20
	maxStderr  = 4 << 10
)

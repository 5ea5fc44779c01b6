package provision

import (
	"fmt"
	"strings"
)

// ExitError is a command that ran and did not succeed.
type ExitError struct {
	Host, Command string
	Status        int
	Stderr        string // its end
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("%s: %s: exit status %d", e.Host, Abbreviate(e.Command), e.Status)
	if e.Stderr != "" {
		text += ": " + e.Stderr
	}
	return text
}

// Abbreviate is how messages show a command: its first line, and not too much of it.
func Abbreviate(s string) string {
	line, _, more := strings.Cut(strings.TrimSpace(s), "\n")
	if len(line) > 120 {
		line, more = line[:120], true
	}
	if more {
		line += " …"
	}
	return line
}

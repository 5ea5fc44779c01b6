package qemu

import "embed"

// Sources are this package's: what saves and starts machines. A snapshot depends
// on them, so that nobody has to remember to raise a version.
//
//go:embed *.go
var Sources embed.FS

package swarm

import "embed"

// Sources are this package's: what forms a swarm. A ready snapshot depends on them.
//
//go:embed *.go
var Sources embed.FS

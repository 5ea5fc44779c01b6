package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hiveproof/hiveproof/provision/remote"
	"github.com/hiveproof/hiveproof/scenarios/supervise"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

func newSSHCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "ssh HOST [-- COMMAND…]",
		Short: "Log in to a host of the lab, or run a command on it",
		Example: `  hiveproof ssh hive0
  hiveproof ssh hive1 -- docker node ls`,
		Args: arguments(cobra.MinimumNArgs(1)),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if _, st, err := g.supervisor(cmd.Context()); err == nil && st != nil && len(args) == 0 {
				var names []string
				for _, h := range st.Hosts {
					names = append(names, h.Name)
				}
				return names, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, st, err := g.supervisor(cmd.Context())
			if err != nil {
				return err
			}
			if client == nil {
				return supervise.ErrNone
			}
			conn, err := connectSSH(client, st, args[0])
			if err != nil {
				return err
			}
			defer conn.Close()
			code, err := interact(cmd.Context(), conn, strings.Join(args[1:], " "))
			if err != nil {
				return err
			}
			if code != 0 {
				return exitStatus(code)
			}
			return nil
		},
	}
}

func connectSSH(client *supervise.Client, st *supervise.Status, host string) (*remote.Conn, error) {
	if st.Phase != supervise.Ready {
		return nil, fmt.Errorf("the lab is not ready: %s", st.Phase)
	}
	key, err := remote.ParseKeyPair(st.PrivateKey)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, h := range st.Hosts {
		if h.Name != host {
			names = append(names, h.Name)
			continue
		}
		hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(h.HostKey))
		if err != nil {
			return nil, fmt.Errorf("%s: read its host key: %w", host, err)
		}
		dial := func(ctx context.Context) (net.Conn, error) { return client.DialSSH(ctx, host) }
		return remote.New(host, dial, key.Signer, hostKey), nil
	}
	return nil, usageError{fmt.Errorf("no host is called %q; the hosts are %s", host, strings.Join(names, ", "))}
}

// interact runs a command or a login shell on the user's own streams.
func interact(ctx context.Context, conn *remote.Conn, command string) (int, error) {
	stdin := int(os.Stdin.Fd())
	if command != "" || !term.IsTerminal(stdin) {
		return conn.Interactive(ctx, command, os.Stdin, os.Stdout, os.Stderr, nil)
	}
	width, height, err := term.GetSize(stdin)
	if err != nil {
		return 0, fmt.Errorf("ask the terminal for its size: %w", err)
	}
	old, err := term.MakeRaw(stdin)
	if err != nil {
		return 0, fmt.Errorf("set the terminal up: %w", err)
	}
	defer term.Restore(stdin, old)
	resized := make(chan [2]int, 1)
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		defer close(resized)
		for {
			select {
			case <-changes:
				if w, h, err := term.GetSize(stdin); err == nil {
					resized <- [2]int{w, h}
				}
			case <-done:
				return
			}
		}
	}()
	defer func() {
		signal.Stop(changes)
		close(done)
	}()
	return conn.Interactive(ctx, "", os.Stdin, os.Stdout, os.Stderr, &remote.Terminal{
		Type: os.Getenv("TERM"), Width: width, Height: height, Resized: resized,
	})
}

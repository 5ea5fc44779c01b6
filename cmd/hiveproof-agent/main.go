// Command hiveproof-agent is the workload that stands in for the images of a
// recipe, inside containers, and asks one question, or looks up a name, from there
// when told to. On the hosts of the embedded lab it is the helper through which they are controlled.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/probes/agent"
	"github.com/hiveproof/hiveproof/provision/helper"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	// As process 1 of a container it gets no default signal handling.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hiveproof-agent: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "probe":
			return probe(ctx, args[1:])
		case "resolve":
			return resolve(ctx, args[1:], os.Stdout)
		case "helper":
			return help(ctx, args[1:])
		case "version":
			fmt.Println("hiveproof-agent", version)
			return nil
		}
	}
	// Whatever else stands there was meant for the image that this one replaces.
	return agent.Run(ctx, os.Getenv, args, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// help serves the host that this program runs on, not in a container, to the
// process that owns it.
func help(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("helper", flag.ContinueOnError)
	device := flags.String("device", "eth1", "interface to listen on")
	owner := flags.String("owner", "", "only address that is answered")
	if err := flags.Parse(args); err != nil {
		return err
	}
	from, err := netip.ParseAddr(*owner)
	if err != nil {
		return fmt.Errorf("--owner: %w", err)
	}
	l, err := helper.Listen(ctx, *device)
	if err != nil {
		return err
	}
	return helper.Serve(ctx, l, from)
}

var errNotAnswered = errors.New("not answered")

// probe asks once and prints the exchange.
func probe(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	app := flags.String("app", "echo", "echo, dns, http, https, mysql, tcp or udp")
	proto := flags.String("proto", "tcp", "tcp or udp")
	plain := flags.Bool("plain", false, "any answer in the protocol counts")
	timeout := flags.Duration("timeout", 5*time.Second, "of the exchange")
	if err := flags.Parse(args); err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("usage: probe [--app APP] [--proto PROTO] ADDRESS:PORT: %w", err)
	}
	x := probes.Exchange1(ctx, probes.Ask{
		Client:   probes.Client{Name: "local"},
		Endpoint: probes.Endpoint{Addr: to, Proto: *proto, App: *app, Plain: *plain},
		Dialer:   new(net.Dialer),
	}, *timeout)
	if err := json.NewEncoder(os.Stdout).Encode(x); err != nil {
		return err
	}
	if x.Outcome != probes.Answered {
		return errNotAnswered
	}
	return nil
}

// resolve looks up the IPv4 addresses of a name as a program in this container
// would, and prints them. A name that has none is a result, not a failure.
func resolve(ctx context.Context, args []string, to io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: resolve NAME")
	}
	found := struct {
		Addresses []netip.Addr `json:"addresses"`
		Err       string       `json:"error,omitempty"`
	}{Addresses: []netip.Addr{}}
	// The C library's resolver is not in the image.
	all, err := (&net.Resolver{PreferGo: true}).LookupNetIP(ctx, "ip4", args[0])
	if err != nil {
		found.Err = err.Error()
	}
	for _, a := range all {
		found.Addresses = append(found.Addresses, a.Unmap())
	}
	return json.NewEncoder(to).Encode(found)
}

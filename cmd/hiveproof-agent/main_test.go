package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/probes/agent"
)

// TestMain lets the test's own program be the agent, as a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("HIVEPROOF_TEST_AGENT") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	// The race detector would let each process sleep for a second at its end.
	cmd.Env = append([]string{"HIVEPROOF_TEST_AGENT=1", "GORACE=atexit_sleep_ms=0"}, env...)
	return cmd
}

func code(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return -1
}

// As process 1 of a container nothing ends the agent but its own handler; with
// the other image's arguments it serves all the same.
func TestServesUntilTerminated(t *testing.T) {
	cmd := command(t, []string{"HIVEPROOF_LISTEN=echo:0/tcp", "HIVEPROOF_NODE=hive1"}, "--api=yes", "--webserver-address=0.0.0.0")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`msg=listening .*address=\S*:(\d+)`)
	var port string
	log := bufio.NewScanner(stderr)
	for port == "" && log.Scan() {
		if found := address.FindStringSubmatch(log.Text()); found != nil {
			port = found[1]
		}
	}
	if port == "" {
		t.Fatal("it never listened")
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hiveproof abc\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, `"node":"hive1"`) {
		t.Errorf("answer %s, %v", line, err)
	}
	// With a connection open.
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for log.Scan() {
	}
	if got := code(t, cmd.Wait()); got != 0 {
		t.Errorf("exit code %d", got)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to end", took)
	}
}

func TestCannotServe(t *testing.T) {
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for listen, want := range map[string]string{
		"":                      "HIVEPROOF_LISTEN",
		"http:80":               "HIVEPROOF_LISTEN",
		"echo:" + port + "/tcp": "serve echo:" + port + "/tcp",
	} {
		out, err := command(t, []string{"HIVEPROOF_LISTEN=" + listen}).CombinedOutput()
		if got := code(t, err); got != 1 || !strings.Contains(string(out), want) {
			t.Errorf("HIVEPROOF_LISTEN=%q: exit code %d, %s", listen, got, out)
		}
	}
}

func TestProbe(t *testing.T) {
	s := agent.NewServer(func(string) string { return "" }, slog.New(slog.DiscardHandler))
	listens, err := agent.ParseListens("echo:0/tcp,dns:0/udp,http:0/tcp")
	if err != nil {
		t.Fatal(err)
	}
	bound, err := s.Start(listens)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	at := func(i int) string { return net.JoinHostPort("127.0.0.1", strings.Split(bound[i].String(), "]:")[1]) }
	for _, test := range []struct {
		args []string
		code int
		want probes.Outcome // empty: no exchange is printed
	}{
		{[]string{"--app", "echo", "--proto", "tcp", at(0)}, 0, probes.Answered},
		{[]string{"--app", "dns", "--proto", "udp", at(1)}, 0, probes.Answered},
		{[]string{"--app", "http", "--timeout", "9s", at(2)}, 0, probes.Answered},
		{[]string{closed.Addr().String()}, 1, probes.Refused},
		{[]string{"--app", "gopher", at(0)}, 1, probes.Failed},
		{nil, 1, ""},
		{[]string{"localhost"}, 1, ""},
		{[]string{"--colour", at(0)}, 1, ""},
	} {
		var stdout, stderr bytes.Buffer
		cmd := command(t, nil, append([]string{"probe"}, test.args...)...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if got := code(t, cmd.Run()); got != test.code {
			t.Errorf("probe %q: exit code %d, want %d: %s", test.args, got, test.code, &stderr)
		}
		var x probes.Exchange
		if test.want == "" {
			if stdout.Len() > 0 || stderr.Len() == 0 {
				t.Errorf("probe %q says %q and %q", test.args, &stdout, &stderr)
			}
		} else if err := json.Unmarshal(stdout.Bytes(), &x); err != nil || x.Outcome != test.want {
			t.Errorf("probe %q: %s, %v, want %s", test.args, &stdout, err, test.want)
		}
	}
}

func TestResolve(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		want string // standard output; with an error, its beginning
	}{
		{[]string{"localhost"}, 0, `{"addresses":["127.0.0.1"]}` + "\n"},
		{[]string{"10.0.1.3"}, 0, `{"addresses":["10.0.1.3"]}` + "\n"},
		{[]string{"::1"}, 0, `{"addresses":[],"error":"`},
		{[]string{"tasks..web"}, 0, `{"addresses":[],"error":"lookup tasks..web: no such host`}, // no server is asked for it
		{nil, 1, ""},
		{[]string{"a", "b"}, 1, ""},
	} {
		out, err := command(t, nil, append([]string{"resolve"}, test.args...)...).Output()
		if got := code(t, err); got != test.code {
			t.Errorf("resolve %q: exit code %d, want %d", test.args, got, test.code)
		}
		if !strings.HasPrefix(string(out), test.want) || test.want == "" && len(out) > 0 {
			t.Errorf("resolve %q: %s, want %s", test.args, out, test.want)
		}
	}
}

func TestVersion(t *testing.T) {
	out, err := command(t, nil, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "hiveproof-agent ") {
		t.Errorf("%q, %v", out, err)
	}
}

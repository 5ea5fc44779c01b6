package agent

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hiveproof/hiveproof/probes/whoami"
)

// fakeDB is as much of a database as the agent uses. Statements that contain
// fails fail.
type fakeDB struct {
	mu    sync.Mutex
	table bool
	rows  [][]driver.NamedValue
	fails string
	opens int
}

func (f *fakeDB) Connect(context.Context) (driver.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails == "connect" {
		return nil, errors.New("no route to host")
	}
	return fakeConn{f}, nil
}
func (f *fakeDB) Driver() driver.Driver { return nil }

type fakeConn struct{ *fakeDB }

func (fakeConn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }
func (fakeConn) Begin() (driver.Tx, error)           { return nil, errors.ErrUnsupported }
func (fakeConn) Close() error                        { return nil }

func (c fakeConn) ExecContext(_ context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.fails != "" && strings.Contains(query, c.fails):
		return nil, errors.New("the disk is full")
	case strings.HasPrefix(query, "CREATE TABLE IF NOT EXISTS hiveproof_results "):
		c.table = true
	case strings.HasPrefix(query, "INSERT INTO hiveproof_results ") && c.table:
		c.rows = append(c.rows, args)
	default:
		return nil, errors.New("cannot " + query)
	}
	return driver.ResultNoRows, nil
}

func (c fakeConn) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.fails != "" && strings.Contains(query, c.fails):
		return nil, errors.New("the disk is full")
	case query == "SELECT COUNT(*) FROM hiveproof_results" && c.table:
		return &fakeRows{int64(len(c.rows))}, nil
	case query == "SELECT VERSION()":
		return &fakeRows{"11.8.3-MariaDB"}, nil
	}
	return nil, errors.New("cannot " + query)
}

// fakeRows is one row of one column.
type fakeRows [1]driver.Value

func (*fakeRows) Columns() []string { return []string{"it"} }
func (*fakeRows) Close() error      { return nil }
func (r *fakeRows) Next(to []driver.Value) error {
	if r[0] == nil {
		return io.EOF
	}
	to[0], r[0] = r[0], nil
	return nil
}

func TestDatabase(t *testing.T) {
	s, at := start(t, map[string]string{"HIVEPROOF_TASK": "t1", "DB_TYPE": "mysql"}, "http:0/tcp")
	f := new(fakeDB)
	s.database = s.openOnce(func() (*sql.DB, error) {
		f.opens++
		return sql.OpenDB(f), nil
	})
	url := "http://" + at[0] + whoami.DatabasePath
	for i := range 3 {
		resp, a := get(t, url+"?nonce=abc", "visitor")
		if want := (whoami.DB{Server: "11.8.3-MariaDB", Rows: i + 1}); resp.StatusCode != http.StatusOK || a.DB == nil || *a.DB != want {
			t.Errorf("%s, %+v, want %+v", resp.Status, a.DB, want)
		}
		if a.Nonce != "abc" || a.Visits != i+1 {
			t.Errorf("answer %+v", a)
		}
	}
	if got := f.rows[0]; len(got) != 2 || got[0].Value != "t1" || got[1].Value != "abc" {
		t.Errorf("row %v", got)
	}
	if f.opens != 1 {
		t.Errorf("opened %d times", f.opens)
	}
	// Other paths leave the database alone.
	if resp, a := get(t, "http://"+at[0]+"/", ""); resp.StatusCode != http.StatusOK || a.DB != nil || len(f.rows) != 3 {
		t.Errorf("%s, %+v, %d rows", resp.Status, a.DB, len(f.rows))
	}
	for _, fails := range []string{"CREATE", "INSERT", "COUNT", "VERSION"} {
		f.fails = fails
		resp, a := get(t, url, "")
		if resp.StatusCode != http.StatusServiceUnavailable || a.DB == nil || !strings.Contains(a.DB.Err, "the disk is full") || a.Task != "t1" {
			t.Errorf("%s fails: %s, %+v", fails, resp.Status, a)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := s.database()
	if err != nil {
		t.Fatal(err)
	}
	if err := db.PingContext(t.Context()); err == nil {
		t.Error("the agent's end leaves the database open")
	}
}

func TestDatabaseUnreachable(t *testing.T) {
	s, at := start(t, map[string]string{"DB_TYPE": "mysql"}, "http:0/tcp")
	s.database = s.openOnce(func() (*sql.DB, error) { return sql.OpenDB(&fakeDB{fails: "connect"}), nil })
	resp, a := get(t, "http://"+at[0]+whoami.DatabasePath, "")
	if resp.StatusCode != http.StatusServiceUnavailable || a.DB == nil || !strings.Contains(a.DB.Err, "no route to host") {
		t.Errorf("%s, %+v", resp.Status, a.DB)
	}
}

// With the real driver, as far as one gets without a server.
func TestDatabaseSettings(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	_, port, err := net.SplitHostPort(closed.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		env    map[string]string
		status int
		want   string // in the error
	}{
		{nil, http.StatusNotFound, ""},
		{map[string]string{"DB_HOSTNAME": "127.0.0.1"}, http.StatusNotFound, ""},
		{map[string]string{"DB_TYPE": "postgresql"}, http.StatusServiceUnavailable, `DB_TYPE "postgresql"`},
		{map[string]string{"DB_TYPE": "mysql", "DB_HOSTNAME": "127.0.0.1", "DB_PORT": port, "DB_PASSWORD": "hunter2"}, http.StatusServiceUnavailable, "refused"},
	} {
		_, at := start(t, test.env, "http:0/tcp")
		resp, a := get(t, "http://"+at[0]+whoami.DatabasePath, "")
		if resp.StatusCode != test.status || (a.DB != nil) != (test.want != "") {
			t.Errorf("%v: %s, %+v", test.env, resp.Status, a.DB)
		} else if a.DB != nil && (!strings.Contains(a.DB.Err, test.want) || strings.Contains(a.DB.Err, "hunter2")) {
			t.Errorf("%v: %s", test.env, a.DB.Err)
		}
	}
	env := map[string]string{"DB_TYPE": "mysql", "DB_HOSTNAME": "mariadb", "DB_USERNAME": "u", "DB_PASSWORD": "p:@/w", "DB_NAME": "d"}
	c, err := databaseConfig(func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := []string{c.Net, c.Addr, c.User, c.Passwd, c.DBName}, []string{"tcp", "mariadb:3306", "u", "p:@/w", "d"}; !slices.Equal(got, want) {
		t.Errorf("settings %q, want %q", got, want)
	}
}

// A database that is first asked for when the agent ends is not left open.
func TestDatabaseAfterEnd(t *testing.T) {
	s := NewServer(func(string) string { return "" }, slog.New(slog.DiscardHandler))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var db *sql.DB
	if _, err := s.openOnce(func() (*sql.DB, error) {
		db = sql.OpenDB(new(fakeDB))
		return db, nil
	})(); err == nil {
		t.Error("opened after the end")
	}
	if err := db.PingContext(t.Context()); err == nil {
		t.Error("it is still open")
	}
}

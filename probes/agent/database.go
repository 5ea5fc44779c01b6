package agent

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/hiveproof/hiveproof/probes/whoami"
)

// databaseTimeout limits each of dialling, reading and writing.
const databaseTimeout = 10 * time.Second

// databaseIdle is shorter than what a swarm's virtual address remembers a
// connection for (IPVS: 15 minutes), and than the downtime of a database that moves.
const databaseIdle = time.Minute

// databaseConfig reads the variables that librespeed's image takes.
func databaseConfig(getenv func(string) string) (*mysql.Config, error) {
	if kind := getenv("DB_TYPE"); kind != "mysql" {
		return nil, fmt.Errorf("DB_TYPE %q: want mysql", kind)
	}
	c := mysql.NewConfig()
	c.Net, c.Addr = "tcp", net.JoinHostPort(getenv("DB_HOSTNAME"), cmp.Or(getenv("DB_PORT"), "3306"))
	c.User, c.Passwd, c.DBName = getenv("DB_USERNAME"), getenv("DB_PASSWORD"), getenv("DB_NAME")
	c.Timeout, c.ReadTimeout, c.WriteTimeout = databaseTimeout, databaseTimeout, databaseTimeout
	return c, nil
}

// openDatabase connects to nothing yet.
func openDatabase(getenv func(string) string) (*sql.DB, error) {
	c, err := databaseConfig(getenv)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetConnMaxIdleTime(databaseIdle)
	return db, nil
}

// openOnce opens on first use, and lets the server's end close it.
func (s *Server) openOnce(open func() (*sql.DB, error)) func() (*sql.DB, error) {
	return sync.OnceValues(func() (*sql.DB, error) {
		db, err := open()
		if err != nil {
			return nil, fmt.Errorf("open the database: %w", err)
		}
		if _, ok := s.track(db); !ok {
			return nil, errors.New("open the database: the agent is ending")
		}
		return db, nil
	})
}

// store writes a row about the answer and puts into it what the database says. It
// returns the response's status.
func (s *Server) store(ctx context.Context, a *whoami.Answer) int {
	if s.database == nil {
		return http.StatusNotFound
	}
	a.DB = new(whoami.DB)
	db, err := s.database()
	if err == nil {
		err = storeRow(ctx, db, a)
	}
	if err != nil {
		a.DB.Err = err.Error()
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// table is made whenever it is not there: the database may have lost its volume
// since the last request, which is a finding, but not one for here.
const table = `CREATE TABLE IF NOT EXISTS hiveproof_results (
	id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
	at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
	task VARCHAR(64) NOT NULL,
	nonce VARCHAR(64) NOT NULL)`

func storeRow(ctx context.Context, db *sql.DB, a *whoami.Answer) error {
	if _, err := db.ExecContext(ctx, table); err != nil {
		return fmt.Errorf("make the table: %w", err)
	}
	if _, err := db.ExecContext(ctx, "INSERT INTO hiveproof_results (task, nonce) VALUES (?, ?)", a.Task, a.Nonce); err != nil {
		return fmt.Errorf("write a row: %w", err)
	}
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM hiveproof_results").Scan(&a.DB.Rows); err != nil {
		return fmt.Errorf("count the rows: %w", err)
	}
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&a.DB.Server); err != nil {
		return fmt.Errorf("ask for the version: %w", err)
	}
	return nil
}

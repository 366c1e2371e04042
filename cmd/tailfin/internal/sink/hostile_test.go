package sink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tailfin-quic/tailfin/bench/hostile"
)

// hostileNames are names from clients, and whether they may be stored.
var hostileNames = map[string]bool{
	"report":                    true,
	"Report":                    true, // another one
	"report-1.csv":              true,
	"ünïcode":                   true,
	"with space":                true,
	strings.Repeat("a", 200):    true,
	"a..b":                      true,
	"~":                         true,
	"-rf":                       true,
	"*":                         true,
	"a.>":                       true,
	"$SYS":                      true,
	"a%2fb":                     true, // as it is: it was decoded before, once
	"%2e%2e%2fout":              true,
	"․․":                        true, // look-alikes of dots, slash and backslash
	"a∕b":                       true,
	"．．／out":                    true,
	"а":                         true, // Cyrillic
	"a\u200db":                  true, // a joiner, which scripts need
	"":                          false,
	".":                         false,
	"..":                        false,
	"...":                       false,
	"../out":                    false,
	"a/../../out":               false,
	"a/..":                      false,
	"/etc/passwd":               false,
	"a/b":                       false,
	"a/":                        false,
	`..\out`:                    false,
	`a\b`:                       false,
	`C:\out`:                    false,
	".hidden":                   false,
	incoming:                    false,
	incoming + "/x":             false,
	incoming + "/../out":        false,
	partialsFolder:              false,
	partialsFolder + "/x.json":  false,
	"nul\x00byte":               false,
	"line\nbreak":               false,
	"cr\r\nlf":                  false,
	"\x1b[31mred":               false,
	"del\x7f":                   false,
	"\u009b31mred":              false, // CSI in one character
	"\u202egnp.exe":             false, // shown from right to left
	"a\u2066b":                  false,
	"a\u2028b":                  false,
	"\xc0\xae\xc0\xae":          false, // dots in UTF-8 that is too long
	"a\xc0\xafb":                false,
	"\xff\xfe":                  false,
	"a\xed\xa0\x80":             false, // half of a surrogate pair
	strings.Repeat("a", 201):    false,
	strings.Repeat("ü", 101):    false,
	strings.Repeat("a", 5000):   false,
	strings.Repeat("../", 5000): false,
}

// tree is what is below dir: path to content, and the kind of what is no file.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if !e.Type().IsRegular() {
			list[rel] = e.Type().String()
			return nil
		}
		b, err := os.ReadFile(path)
		list[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestHostileNames has each name stored, read and begun as an upload that can be
// continued: inside of the folder, under this very name, or not at all.
func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"out": "secret", "in/lost+found/x": "kept"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, dir)
	d := openDir(t, filepath.Join(dir, "in"))
	names := hostile.Result{Kind: "client", Fault: "path traversal and odd names at the dir sink"}
	good := 0
	for name, ok := range hostileNames {
		names.Tries++
		_, err := d.Store(t.Context(), Upload{Name: name}, strings.NewReader("x"+name))
		obj, oerr := d.Open(t.Context(), name)
		var bad *NameError
		if !ok {
			_, cerr := d.Create(t.Context(), Upload{Name: name}, -1)
			if !errors.As(err, &bad) || !errors.As(oerr, &bad) || !errors.As(cerr, &bad) {
				t.Errorf("name %.30q: %v, %v and %v, want NameErrors", name, err, oerr, cerr)
			}
			continue
		}
		good++
		if err != nil || oerr != nil {
			t.Errorf("name %.30q: %v, %v", name, err, oerr)
			names.Lost++
			continue
		}
		got, err := io.ReadAll(obj)
		_ = obj.Close()
		if err != nil || string(got) != "x"+name {
			names.Corrupt++
		}
		before[filepath.Join("in", name)] = "x" + name
	}
	// The folder of a file system's own.
	names.Tries++
	var bad *NameError
	if _, err := d.Store(t.Context(), Upload{Name: "lost+found"}, strings.NewReader("x")); !errors.As(err, &bad) {
		t.Errorf("the name of a folder: %v", err)
	}
	if _, err := d.Open(t.Context(), "lost+found"); !IsNotFound(err) {
		t.Errorf("a folder was opened: %v", err)
	}
	before["in/"+incoming], before["in/"+partialsFolder] = "d---------", "d---------"
	after := tree(t, dir)
	for path, text := range before {
		switch got, there := after[path]; {
		case !there:
			names.Lost++
		case got != text:
			names.Corrupt++
		}
	}
	for path := range after {
		if _, known := before[path]; !known {
			t.Errorf("there is %q now", path)
			names.Leaked++
		}
	}
	names.Bound = fmt.Sprintf("%d stored under their very names, %d refused with 400; names have %d bytes at most", good, names.Tries-good, maxName)
	names.Report(t)
}

// FuzzName: what is accepted is one path element, and says the same to everyone.
func FuzzName(f *testing.F) {
	for name := range hostileNames {
		f.Add(name)
	}
	dir := f.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		path := filepath.Join(dir, name)
		if filepath.Dir(path) != dir || filepath.Base(path) != name || !filepath.IsLocal(name) || strings.HasPrefix(name, ".") || len(name) > maxName {
			t.Fatalf("%q is %s", name, path)
		}
		if strings.ToValidUTF8(name, "") != name || strings.ContainsAny(name, "/\\\x00\n\r\x1b\x7f") {
			t.Fatalf("%q was accepted", name)
		}
		file, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		_ = file.Close()
		if list, err := os.ReadDir(dir); err != nil || len(list) != 1 || list[0].Name() != name {
			t.Fatalf("%q is in the folder as %v, %v", name, list, err)
		}
		if err := root.Remove(name); err != nil {
			t.Fatal(err)
		}
	})
}

// mustEnd calls f, and tells whether it has returned in time: what it opens must not
// keep it for ever.
func mustEnd(t testing.TB, what string, f func()) bool {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
		return true
	case <-time.After(30 * time.Second):
		t.Errorf("%s does not return", what)
		return false
	}
}

// planted puts things into the folder that another user of it may put there, and
// returns their names.
func planted(t *testing.T, in, outside string) []string {
	t.Helper()
	at := func(name string) string { return filepath.Join(in, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink(outside, at("absolute link")))
	must(os.Symlink("../secret", at("relative link")))
	must(os.Symlink("loop", at("loop")))
	must(os.Symlink("nowhere", at("dangling")))
	must(os.Symlink("/proc/self/environ", at("proc")))
	must(unix.Mkfifo(at("fifo"), 0o666))
	must(os.Link(outside, at("hard link")))
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(err)
	t.Cleanup(func() { _ = unix.Close(socket) })
	must(unix.Bind(socket, &unix.SockaddrUnix{Name: at("socket")}))
	names := []string{"absolute link", "relative link", "loop", "dangling", "proc", "fifo", "hard link", "socket"}
	if err := unix.Mknod(at("device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err == nil { // /dev/zero, if we may
		names = append(names, "device")
	}
	return names
}

// TestHostileFolder has someone else put links, FIFOs and devices where uploads are
// stored: nothing is read through them, nothing waits for them, and an upload
// replaces them and not what they lead to.
func TestHostileFolder(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(dir, "in")
	d := openDir(t, in)
	folder := hostile.Result{Kind: "machine", Fault: "links, FIFOs, sockets and devices in the folder of the dir sink"}
	for _, name := range planted(t, in, secret) {
		folder.Tries++
		ended := mustEnd(t, "reading "+name, func() {
			obj, err := d.Open(t.Context(), name)
			if err != nil {
				return
			}
			defer obj.Close()
			// A hard link is a file as any other.
			if b, _ := io.ReadAll(io.LimitReader(obj, 100)); name != "hard link" {
				t.Errorf("%s was read: %q", name, b)
				folder.Corrupt++
			}
		})
		ended = ended && mustEnd(t, "writing "+name, func() {
			if _, err := d.Store(t.Context(), Upload{Name: name}, strings.NewReader("new")); err != nil {
				t.Errorf("%s: %v", name, err)
				folder.Lost++
			}
		})
		if !ended {
			folder.Crashed++
			continue
		}
		if info, err := os.Lstat(filepath.Join(in, name)); err != nil || !info.Mode().IsRegular() || info.Size() != 3 {
			t.Errorf("%s is %v, %v", name, info, err)
			folder.Lost++
		}
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("the file outside is %q, %v", b, err)
		folder.Corrupt++
	}
	folder.Leaked = len(files(t, filepath.Join(in, incoming)))
	folder.Bound = "opened without following or waiting; an upload replaces the name alone"
	folder.Report(t)
}

// TestHostileSwap swaps a stored file for a link to outside, a FIFO and back, while it
// is read and replaced.
func TestHostileSwap(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(dir, "in")
	d := openDir(t, in)
	at := func(name string) string { return filepath.Join(in, name) }
	swap := hostile.Result{Kind: "machine", Fault: "a stored file swapped for a link or a FIFO while it is read"}
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			var err error
			switch i % 3 {
			case 0:
				err = os.Symlink(secret, at(".swap"))
			case 1:
				err = unix.Mkfifo(at(".swap"), 0o666)
			case 2:
				err = os.WriteFile(at(".swap"), []byte("public"), 0o600)
			}
			if err == nil {
				err = os.Rename(at(".swap"), at("report"))
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for end := hostile.Size(3000, 100_000); swap.Tries < end; swap.Tries++ {
		ended := mustEnd(t, "a read", func() {
			obj, err := d.Open(t.Context(), "report")
			if err != nil {
				return
			}
			if b, _ := io.ReadAll(obj); string(b) != "public" && string(b) != "" && string(b) != "upload" {
				t.Errorf("read %q", b)
				swap.Corrupt++
			}
			_ = obj.Close()
		})
		if !ended {
			swap.Crashed++
			break
		}
		if swap.Tries%100 == 0 {
			if _, err := d.Store(t.Context(), Upload{Name: "report"}, strings.NewReader("upload")); err != nil {
				t.Error(err)
				swap.Lost++
			}
		}
	}
	close(stop)
	swapper.Wait()
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("the file outside is %q, %v", b, err)
		swap.Corrupt++
	}
	swap.Bound = "never what is outside of the folder, no read waits"
	swap.Report(t)
}

// TestHostileOwnFolders has the sink's own folders be links to elsewhere, where it would
// remove what is old, and then moves the folder away from under it.
func TestHostileOwnFolders(t *testing.T) {
	own := hostile.Result{Kind: "machine", Fault: "the dir sink's own folders are links, or are moved away"}
	for _, name := range []string{incoming, partialsFolder} {
		own.Tries++
		dir := t.TempDir()
		elsewhere := filepath.Join(dir, "elsewhere")
		old := filepath.Join(elsewhere, ".old")
		for _, err := range []error{
			os.Mkdir(elsewhere, 0o755), os.WriteFile(old, []byte("x"), 0o600), os.Mkdir(filepath.Join(dir, "in"), 0o755),
			os.Symlink(elsewhere, filepath.Join(dir, "in", name)),
			os.Chtimes(old, time.Now().Add(-3*staleAfter), time.Now().Add(-3*staleAfter)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		d, err := OpenDir(filepath.Join(dir, "in"), Options{})
		if err == nil {
			_ = d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "no link") {
			t.Errorf("%s is a link: %v", name, err)
		}
		if _, err := os.Stat(old); err != nil {
			own.Lost++
		}
	}

	dir := filepath.Join(t.TempDir(), "in")
	d := openDir(t, dir)
	id := create(t, d, "report", -1)
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	own.Tries++
	if !mustEnd(t, "a look at an upload", func() {
		if p, err := d.Find(t.Context(), id); err != nil || p.ID != id {
			t.Errorf("an upload in a folder that was moved: %+v, %v", p, err)
			own.Lost++
		}
	}) {
		own.Crashed++
	}
	// A FIFO where an upload was.
	part := filepath.Join(dir+".moved", partialsFolder, id+partSuffix)
	if err := errors.Join(os.Remove(part), unix.Mkfifo(part, 0o666)); err != nil {
		t.Fatal(err)
	}
	own.Tries++
	if !mustEnd(t, "a look at a FIFO", func() {
		if _, err := d.Find(t.Context(), id); !errors.Is(err, ErrNoUpload) {
			t.Errorf("a FIFO was taken for an upload: %v", err)
		}
	}) {
		own.Crashed++
	}
	own.Bound = "refused at the start; the folder that was opened stays the one that is used"
	own.Report(t)
}

// openFiles is how many file descriptors the process has.
func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, syscall.ENOENT) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

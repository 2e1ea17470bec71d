package bench

import (
	"io/fs"
	"os"
	"path/filepath"
)

// directorySize is the bytes on disk of all files below dir. Files that
// vanish meanwhile don't count.
func directorySize(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += diskBytes(info)
		}
		return nil
	})
	return size, err
}

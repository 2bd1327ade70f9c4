// A program that is frozen where it waits for its first line of input: with a
// goroutine that stands in the middle of a loop, an open file and a deferred call.
package main

import (
	"bufio"
	"fmt"
	"os"
	"sync"
	"time"
)

func main() {
	defer func() {
		fmt.Println("recovered", recover())
		os.Exit(7)
	}()
	squares := make(chan int, 2)
	var wait sync.WaitGroup
	wait.Add(1)
	go func() {
		defer wait.Done()
		for i := range 5 {
			squares <- i * i
			time.Sleep(time.Millisecond)
		}
		close(squares)
	}()
	file, err := os.Create("/tmp/lines")
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(file, "before")
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Fprintln(file, lines.Text())
	}
	for square := range squares {
		fmt.Println(square)
	}
	wait.Wait()
	file.Close()
	text, err := os.ReadFile("/tmp/lines")
	fmt.Print(string(text), err, "\n")
	panic("the end")
}

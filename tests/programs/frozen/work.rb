# Stands in a fiber and a rescue, under ensure, with half a line written.
def mark
  File.open("/.stratafs/checkpoint") { }
rescue SystemCallError
  nil
end

words = Fiber.new do
  %w[one two three four].each { |word| Fiber.yield word }
  :done
end

squares = Enumerator.new do |out|
  n = 0
  loop { out << n * n; n += 1 }
end

def deep(level, words)
  return yield if level == 0
  begin
    deep(level - 1, words) { yield }
  ensure
    puts "out of #{level} with #{words.resume}"
  end
end

$stdout.sync = false
log = File.open("/work/log", "a+")
begin
  deep(3, words) do
    log.puts "before"
    $stdout.write "half a line, "
    mark
    puts "and the rest: #{squares.next} #{squares.next} #{squares.next}"
    begin
      raise ArgumentError, "inner"
    rescue ArgumentError => error
      puts "asked #{$stdin.gets.chomp}"
      log.puts "after"
      throw :nobody, error
    end
  end
rescue UncaughtThrowError => error
  puts "#{error.class} after #{error.cause.message}"
end
log.rewind
puts log.read.split.inspect
found = catch(:found) do
  [3, 1, 2].sort.each { |n| throw :found, [n, $stdin.gets.chomp] if n == 2 }
end
puts found.inspect, squares.next, words.resume
exit 3

// A counter that shows its highest bits on four lamps, with a memory of eight bytes in between.
module counter(input clk, input [2:0] key, output [3:0] lamps);
    reg [25:0] count = 0;
    reg [7:0] table_of_steps [0:7];
    reg [7:0] step = 1;
    integer i;
    initial for (i = 0; i < 8; i = i + 1) table_of_steps[i] = i * i + 1;
    always @(posedge clk) begin
        step <= table_of_steps[key];
        count <= count + step;
    end
    assign lamps = count[25:22];
endmodule

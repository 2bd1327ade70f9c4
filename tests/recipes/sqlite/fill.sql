create table item(id integer primary key, name text, price integer);
insert into item values (1, 'pear', 30), (2, 'apple', 20);
create table sold(item integer references item(id));
insert into sold values (1), (2), (2);
create index by_item on sold(item);
